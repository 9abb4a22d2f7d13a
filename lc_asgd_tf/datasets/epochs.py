"""How long an epoch is."""

from lc_asgd_tf import errors
from lc_asgd_tf.datasets import image_classification, in_memory


def steps_per_epoch(
  dataset: (
    image_classification.ImageClassification | in_memory.InMemoryClassification
  ),
  batch_size: int,
) -> int:
  """Returns how many whole batches the training examples fill.

  Args:
    dataset: the data.
    batch_size: examples per batch.

  Raises:
    UserError: if they do not fill one.
  """
  if batch_size > dataset.num_train:
    raise errors.UserError(
      f"batch_size={batch_size} is more than the {dataset.num_train} training "
      f"examples of {dataset.name}."
    )
  return dataset.num_train // batch_size
