"""What each worker pulled last, kept by the server for d = w - w_m."""

import tensorflow as tf


class SeparateSnapshots:
  """One variable per worker, for servers whose updates are compiled alone.

  Storing a snapshot copies nothing: the variable takes over the very buffer
  that the update returned. XLA cannot index variables, so that `read` and
  `write` stay outside of compiled functions.

  Args:
    initial: the vector that every worker starts with, shape=(n,).
    num_workers: M.
  """

  def __init__(self, initial: tf.Tensor, num_workers: int) -> None:
    self._shape = initial.shape
    self._dtype = initial.dtype
    self.variables = [
      tf.Variable(initial, trainable=False, name=f"snapshot_{worker}")
      for worker in range(num_workers)
    ]

  def read(self, worker: tf.Tensor) -> tf.Tensor:
    """Returns w_m, shape=(n,)."""
    snapshot = tf.raw_ops.ReadVariableOp(
      resource=self._handle(worker), dtype=self._dtype
    )
    return tf.ensure_shape(snapshot, self._shape)

  def write(self, worker: tf.Tensor, weights: tf.Tensor) -> tf.Operation:
    """Sets w_m to weights, shape=(n,)."""
    return tf.raw_ops.AssignVariableOp(
      resource=self._handle(worker), value=weights
    )

  def _handle(self, worker):
    handles = tf.stack([variable.handle for variable in self.variables])
    return tf.gather(handles, worker)
