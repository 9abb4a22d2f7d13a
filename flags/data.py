"""Flags of the data set."""

import dataclasses

from absl import flags

from flags import folder


@dataclasses.dataclass(frozen=True)
class DataOptions:
  """What the flags of this group say.

  Attributes:
    dataset: name of a bundled data set, or of a TFDS image-classification one.
    data_dir: where TFDS keeps data sets; None for its default.
    batch_size: examples per worker and step.
    augment: whether training images are shifted and flipped.
    train_split: TFDS split; None for `train`.
    test_split: TFDS split; None for `test` or `validation`.
  """

  dataset: str
  data_dir: str | None
  batch_size: int
  augment: bool
  train_split: str | None
  test_split: str | None


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
  folder.check("data_dir")
  flags.DEFINE_integer(
    "batch_size", 32, "Examples per worker and step.", lower_bound=1
  )
  flags.DEFINE_bool(
    "augment", False, "Shift and flip the training images at random."
  )
  flags.DEFINE_string(
    "train_split", None, "TFDS split to train on, such as train[:80%]."
  )
  flags.DEFINE_string(
    "test_split",
    None,
    "TFDS split to test on, such as train[80%:]; by default test, or else "
    "validation.",
  )


def read() -> DataOptions:
  """Returns the parsed flags of this group."""
  values = flags.FLAGS
  return DataOptions(
    dataset=values.dataset,
    data_dir=values.data_dir,
    batch_size=values.batch_size,
    augment=values.augment,
    train_split=values.train_split,
    test_split=values.test_split,
  )
