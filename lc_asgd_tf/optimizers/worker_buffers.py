"""Non-trainable variables that simulated workers do not share."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from lc_asgd_tf import server


class WorkerBuffers:
  """Each worker's own values of some of the model's variables.

  Args:
    variables: the model's; all workers start with their values.
    num_workers: M.
  """

  def __init__(
    self, variables: Sequence[keras.Variable], num_workers: int
  ) -> None:
    self._variables = list(variables)
    self._packing = server.Packing(
      [tf.TensorSpec(v.shape, v.dtype) for v in self._variables]
    )
    held = self._held()
    self._rows = tf.Variable(
      tf.tile(held[tf.newaxis], [num_workers, 1]), trainable=False
    )
    self._latest = tf.Variable(held, trainable=False)

  def begin(self) -> None:
    """Makes what the model holds everybody's."""
    held = self._held()
    self._rows.assign(tf.broadcast_to(held, self._rows.shape))
    self._latest.assign(held)

  def keep(self, worker: tf.Tensor) -> None:
    """Makes what the model holds the worker's, and the latest."""
    held = self._held()
    self._latest.assign(held)
    tf.raw_ops.ResourceScatterUpdate(
      resource=self._rows.handle,
      indices=worker[tf.newaxis],
      updates=held[tf.newaxis],
    )

  def load(self, worker: tf.Tensor) -> None:
    """Makes the model hold the worker's."""
    self._load(
      tf.raw_ops.ResourceGather(
        resource=self._rows.handle, indices=worker, dtype=tf.float32
      )
    )

  def load_latest(self) -> None:
    """Makes the model hold those of the worker that pushed last."""
    self._load(tf.convert_to_tensor(self._latest))

  def _held(self):
    return self._packing.pack([v.value for v in self._variables])

  def _load(self, packed):
    for variable, value in zip(
      self._variables, self._packing.unpack(packed), strict=True
    ):
      variable.assign(value)
