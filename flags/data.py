"""Flags of the data set."""

import dataclasses

from absl import flags


@dataclasses.dataclass(frozen=True)
class DataOptions:
  """What the flags of this group say.

  Attributes:
    dataset: name of a bundled data set, or of a TFDS image-classification one.
    data_dir: where TFDS keeps data sets; None for its default.
    batch_size: examples per worker and step.
    augment: whether training images are shifted and flipped.
  """

  dataset: str
  data_dir: str | None
  batch_size: int
  augment: bool


def define() -> None:
  """Registers the flags of this group."""
  flags.DEFINE_string(
    "dataset",
    "digits",
    "Any TFDS image-classification data set with images of one size, or one of "
    "breast_cancer and python_topics, which are no images. These two and "
    "digits need no network.",
  )
  flags.DEFINE_string(
    "data_dir",
    None,
    "Directory of prepared TFDS data sets, readable by every worker; by "
    "default that of TFDS.",
  )
  flags.DEFINE_integer(
    "batch_size", 32, "Examples per worker and step.", lower_bound=1
  )
  flags.DEFINE_bool(
    "augment", False, "Shift and flip the training images at random."
  )


def read() -> DataOptions:
  """Returns the parsed flags of this group."""
  values = flags.FLAGS
  return DataOptions(
    dataset=values.dataset,
    data_dir=values.data_dir,
    batch_size=values.batch_size,
    augment=values.augment,
  )
