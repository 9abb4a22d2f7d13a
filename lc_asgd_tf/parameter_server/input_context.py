"""What a function that returns a worker's data set may ask for."""

import tensorflow as tf


class InputContext(tf.distribute.InputContext):
  """A `tf.distribute.InputContext` that knows how far training has come.

  Args:
    num_workers: M.
    worker: the worker's index, shape=(), int64.
    pushes: see `pushes`.
  """

  def __init__(
    self, num_workers: int, worker: tf.Tensor, pushes: tf.Tensor
  ) -> None:
    super().__init__(num_input_pipelines=num_workers, input_pipeline_id=worker)
    self._pushes = pushes

  @property
  def pushes(self) -> tf.Tensor:
    """How many pushes the server had seen when the worker began its data.

    Shape=(), int64. Data shuffled by it come in another order where a worker
    has been away or training is continued, instead of from the beginning again.
    """
    return self._pushes
