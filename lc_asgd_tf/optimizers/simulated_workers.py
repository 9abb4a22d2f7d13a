"""Workers on one device, in virtual time."""

import keras
import tensorflow as tf

from lc_asgd_tf import delays as delays_lib

_NEVER = float("inf")


class SimulatedWorkers:
  """Each worker's snapshot, and whose gradient comes next.

  At time 0 all workers pull; a worker's gradient arrives after its delay, it
  pulls at once, and so on. Equal times are taken in the order of the workers.

  Args:
    weights: what all workers pull at time 0, packed, shape=(n,).
    num_workers: M.
    delays: how long steps take.
    synchronous: whether all wait for each other and pull together.

  Attributes:
    snapshots: w_m, shape=(M, n), float32; one for all if synchronous.
    arrivals: when each worker's gradient arrives, shape=(M,), float64; infinite
      while it waits for the others.
    steps: how many steps each worker has begun, shape=(M,), int64.
    turn: the worker whose gradient arrives next, shape=(), int64.
    time: virtual time of the latest arrival, shape=(), float64.
  """

  def __init__(
    self,
    weights: tf.Tensor,
    num_workers: int,
    delays: delays_lib.Delays,
    synchronous: bool = False,
  ) -> None:
    self._synchronous = synchronous
    table = delays.table(num_workers)
    self._delays = tf.Variable(table, trainable=False)
    copies = 1 if synchronous else num_workers
    self.snapshots = _state(tf.tile(weights[tf.newaxis], [copies, 1]))
    self.arrivals = _state(table[:, 0])
    self.steps = _state(tf.ones([num_workers], tf.int64))
    self.turn = _state(tf.argmin(table[:, 0]))
    self.time = _state(tf.zeros([], tf.float64))

  def begin(self, delays: delays_lib.Delays) -> None:
    """Starts virtual time anew, with other delays; snapshots stay."""
    table = delays.table(self._delays.shape[0])
    self._delays.assign(table)
    self.arrivals.assign(table[:, 0])
    self.steps.assign(tf.ones_like(self.steps.value))
    self.turn.assign(tf.argmin(table[:, 0]))
    self.time.assign(0.0)

  @property
  def variables(self) -> list[keras.Variable]:
    """All state, in a fixed order."""
    return [self.snapshots, self.arrivals, self.steps, self.turn, self.time]

  def snapshot(self) -> tf.Tensor:
    """Returns w_m of the worker whose turn it is, shape=(n,)."""
    return self._row(tf.convert_to_tensor(self.turn.value))

  def keep(self, weights: tf.Tensor) -> None:
    """Makes the weights the snapshot of the worker whose turn it is."""
    # In place, under XLA too, whatever M is: no other write is.
    tf.raw_ops.ResourceScatterUpdate(
      resource=self.snapshots.value.handle,
      indices=self._slot(tf.convert_to_tensor(self.turn.value))[tf.newaxis],
      updates=weights[tf.newaxis],
    )

  def keep_for_all(self, weights: tf.Tensor) -> None:
    """Makes the weights every worker's snapshot."""
    shape = self.snapshots.shape
    self.snapshots.assign(tf.broadcast_to(weights, shape))

  def advance(self, weights: tf.Tensor) -> tf.Tensor:
    """The gradient has arrived; the worker pulls, and the next one's turn is.

    Args:
      weights: what the worker pulls, packed, shape=(n,).

    Returns:
      The snapshot of the worker whose turn is next, shape=(n,).
    """
    worker = tf.convert_to_tensor(self.turn.value)
    arrivals = tf.convert_to_tensor(self.arrivals.value)
    steps = tf.convert_to_tensor(self.steps.value)
    self.keep(weights)
    now = tf.gather(arrivals, worker)
    begins = tf.range(self._delays.shape[0], dtype=tf.int64) == worker
    if self._synchronous:
      arrivals = tf.where(begins, tf.constant(_NEVER, tf.float64), arrivals)
      begins = tf.fill(begins.shape, tf.reduce_all(arrivals == _NEVER))
    delays = tf.gather(
      self._delays, steps % self._delays.shape[1], axis=1, batch_dims=1
    )
    arrivals = tf.where(begins, now + delays, arrivals)
    following = tf.argmin(arrivals)
    self.time.assign(now)
    self.arrivals.assign(arrivals)
    self.steps.assign(steps + tf.cast(begins, tf.int64))
    self.turn.assign(following)
    if self._synchronous:
      return weights
    # Not read from where it has just been written.
    return tf.where(following == worker, weights, self._row(following))

  def _row(self, worker: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.ResourceGather(
      resource=self.snapshots.value.handle,
      indices=self._slot(worker),
      dtype=tf.float32,
    )

  def _slot(self, worker: tf.Tensor) -> tf.Tensor:
    return tf.zeros_like(worker) if self._synchronous else worker


def _state(value) -> keras.Variable:
  value = tf.convert_to_tensor(value)
  return keras.Variable(value, dtype=value.dtype.name, trainable=False)
