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

  def handles(self) -> tf.Tensor:
    """Returns those of all workers' snapshots, shape=(M,), resource."""
    return tf.stack([variable.handle for variable in self.variables])

  def handle(
    self, worker: tf.Tensor, handles: tf.Tensor | None = None
  ) -> tf.Tensor:
    """Returns that of a worker's snapshot, shape=(), resource.

    Args:
      worker: m, shape=(), an integer.
      handles: what `handles` has returned, if it was called before.
    """
    if handles is None:
      handles = self.handles()
    # `tf.gather` has a constant.
    return tf.raw_ops.Gather(params=handles, indices=worker)

  def read(self, handle: tf.Tensor) -> tf.Tensor:
    """Returns w_m, shape=(n,)."""
    snapshot = tf.raw_ops.ReadVariableOp(resource=handle, dtype=self._dtype)
    return tf.ensure_shape(snapshot, self._shape)

  def write(self, handle: tf.Tensor, weights: tf.Tensor) -> tf.Operation:
    """Sets w_m to weights, shape=(n,)."""
    return tf.raw_ops.AssignVariableOp(resource=handle, value=weights)
