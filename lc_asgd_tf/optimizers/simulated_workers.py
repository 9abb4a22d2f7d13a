"""Workers on one device, in virtual time."""

import keras
import numpy as np
import tensorflow as tf

from lc_asgd_tf import delays as delays_lib

_NEVER = np.float64("inf")


class SimulatedWorkers:
  """Each worker's snapshot, and whose gradient comes next.

  At time 0 all workers pull; a worker's gradient arrives after its delay, it
  pulls at once, and so on. Equal times are taken in the order of the workers.
  Where the delays have rests, a worker rests before each pull, while others
  push.

  Args:
    weights: what all workers pull at time 0, packed, shape=(n,).
    num_workers: M.
    delays: how long steps take.
    synchronous: whether all wait for each other and pull together.

  Attributes:
    snapshots: w_m, shape=(M, n), float32; one for all if synchronous.
    arrivals: when each worker's gradient arrives, shape=(M,), float64; infinite
      while it waits for the others.
    pulls: when each resting worker will pull, shape=(M,), float64; infinite
      for one that has pulled. None if no worker ever rests.
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
    table, rests = self._draw(delays, num_workers)
    self._delays = tf.Variable(table, trainable=False)
    self._rests = self.pulls = None
    if rests is not None:
      self._rests = tf.Variable(rests, trainable=False)
      self.pulls = _state(tf.zeros([num_workers], tf.float64))
    copies = 1 if synchronous else num_workers
    self.snapshots = _state(tf.tile(weights[tf.newaxis], [copies, 1]))
    self.arrivals = _state(tf.zeros([num_workers], tf.float64))
    self.steps = _state(tf.zeros([num_workers], tf.int64))
    self.turn = _state(tf.zeros([], tf.int64))
    self.time = _state(tf.zeros([], tf.float64))
    self._begin(table, rests)

  def begin(self, delays: delays_lib.Delays) -> None:
    """Starts virtual time anew, with other delays; snapshots stay.

    Raises:
      ValueError: if workers are to rest now, and were not at first.
    """
    table, rests = self._draw(delays, self._delays.shape[0])
    if rests is not None and self._rests is None:
      raise ValueError(
        "These workers were made for delays without rests: make new ones."
      )
    self._begin(table, rests)

  def _draw(self, delays, num_workers):
    """Returns delays and rests, the latter None if no worker ever rests."""
    table = _table(delays, num_workers)
    return table, None if self._synchronous else _rests(delays, num_workers)

  def _begin(self, table, rests):
    self._delays.assign(table)
    self.arrivals.assign(table[:, 0])
    if self._rests is not None:
      rests = np.zeros_like(table) if rests is None else rests
      self._rests.assign(rests)
      arrivals = rests[:, 0] + table[:, 0]
      self.arrivals.assign(arrivals)
      # Who pulls before the first push pulls what everybody has.
      late = rests[:, 0] >= np.min(arrivals)
      self.pulls.assign(np.where(late, rests[:, 0], _NEVER))
    self.steps.assign(tf.ones_like(self.steps.value))
    self.turn.assign(tf.argmin(self.arrivals.value))
    self.time.assign(0.0)

  @property
  def variables(self) -> list[keras.Variable]:
    """All state, in a fixed order."""
    state = [self.snapshots, self.arrivals, self.steps, self.turn, self.time]
    return state if self._rests is None else [*state, self.pulls]

  def snapshot(self) -> tf.Tensor:
    """Returns w_m of the worker whose turn it is, shape=(n,)."""
    return self._row(tf.convert_to_tensor(self.turn.value))

  def keep(self, weights: tf.Tensor) -> None:
    """Makes the weights the snapshot of the worker whose turn it is."""
    self._write(tf.convert_to_tensor(self.turn.value), weights)

  def keep_for_all(self, weights: tf.Tensor) -> None:
    """Makes the weights every worker's snapshot."""
    shape = self.snapshots.shape
    self.snapshots.assign(tf.broadcast_to(weights, shape))

  def advance(self, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
    """The gradient has arrived; the worker pulls, and the next one's turn is.

    Args:
      weights: what the worker pulls, packed, shape=(n,).

    Returns:
      The snapshot of the worker whose turn is next, shape=(n,), and who has
      rested and pulls now, before that one pushes, shape=(M,), bool; None if no
      worker ever rests.
    """
    worker = tf.convert_to_tensor(self.turn.value)
    arrivals = tf.convert_to_tensor(self.arrivals.value)
    steps = tf.convert_to_tensor(self.steps.value)
    self.keep(weights)
    now = tf.gather(arrivals, worker)
    begins = tf.range(self._delays.shape[0], dtype=tf.int64) == worker
    if self._synchronous:
      arrivals = tf.where(begins, _NEVER, arrivals)
      begins = tf.fill(begins.shape, tf.reduce_all(arrivals == _NEVER))
    slots = steps % self._delays.shape[1]
    pulls_at = now
    if self._rests is not None:
      pulls_at += tf.gather(self._rests, slots, axis=1, batch_dims=1)
    delays = tf.gather(self._delays, slots, axis=1, batch_dims=1)
    arrivals = tf.where(begins, pulls_at + delays, arrivals)
    following = tf.argmin(arrivals)
    self.time.assign(now)
    self.arrivals.assign(arrivals)
    self.steps.assign(steps + tf.cast(begins, tf.int64))
    self.turn.assign(following)
    if self._synchronous:
      return weights, None
    fresh, woken = following == worker, None
    if self._rests is not None:
      pulls = tf.convert_to_tensor(self.pulls.value)
      pulls = tf.where(begins & (pulls_at > now), pulls_at, pulls)
      woken = pulls < tf.reduce_min(arrivals)
      self.pulls.assign(tf.where(woken, _NEVER, pulls))
      self._keep_for(woken, weights)
      fresh |= tf.gather(woken, following)
    # Not read from where it has just been written.
    return tf.where(fresh, weights, self._row(following)), woken

  def _keep_for(self, workers: tf.Tensor, weights: tf.Tensor) -> None:
    """Makes the weights the snapshot of some workers, shape=(M,), bool."""

    def write(left):
      worker = tf.argmax(left)
      self._write(worker, weights)
      everyone = tf.range(left.shape[0], dtype=worker.dtype)
      return (left & (everyone != worker),)

    tf.while_loop(tf.reduce_any, write, (workers,))

  def _write(self, worker: tf.Tensor, weights: tf.Tensor) -> None:
    # In place, under XLA too, whatever M is: no other write is.
    tf.raw_ops.ResourceScatterUpdate(
      resource=self.snapshots.value.handle,
      indices=self._slot(worker)[tf.newaxis],
      updates=weights[tf.newaxis],
    )

  def _row(self, worker: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.ResourceGather(
      resource=self.snapshots.value.handle,
      indices=self._slot(worker),
      dtype=tf.float32,
    )

  def _slot(self, worker: tf.Tensor) -> tf.Tensor:
    return tf.zeros_like(worker) if self._synchronous else worker


def _table(delays: delays_lib.Delays, num_workers: int) -> np.ndarray:
  """Returns the delays, shape=(M, k), float64, once they are known to be so."""
  table = np.asarray(delays.table(num_workers), np.float64)
  if table.ndim != 2 or len(table) != num_workers or not table.size:
    raise ValueError(
      f"{type(delays).__name__}.table({num_workers}) must have one row of "
      f"delays per worker, got the shape {table.shape}."
    )
  if not (np.isfinite(table) & (table > 0)).all():
    raise ValueError(
      f"{type(delays).__name__}.table({num_workers}) has delays that are not "
      "positive numbers."
    )
  return table


def _rests(delays: delays_lib.Delays, num_workers: int) -> np.ndarray | None:
  """Returns the rests, shape=(M, k), float64, or None."""
  rests = delays.rests(num_workers)
  return None if rests is None else np.asarray(rests, np.float64)


def _state(value) -> keras.Variable:
  value = tf.convert_to_tensor(value)
  return keras.Variable(value, dtype=value.dtype.name, trainable=False)
