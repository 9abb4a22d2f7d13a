"""What is left to do of each dispatch, known where the pushes arrive."""

import keras
import tensorflow as tf

# How many dispatches may wait per worker: enough that nobody idles behind a
# worker that is this many times slower than the others.
_PER_WORKER = 32


class Dispatches:
  """How much of each dispatch is done, so that no step is done twice.

  A dispatch is a number of steps that a worker does one after the other. When
  a worker dies amid one, the coordinator, which knows nothing of single steps,
  has another worker do it anew; here it learns how many of them are done.

  Everything is created on the current device, that of the ledger.

  Args:
    pushes: how many each worker has made, shape=(M,), int64 (see
      `server.Ledger`).

  Attributes:
    capacity: dispatches are numbered from 0, and of so many in a row any may be
      on their way at the same time.
  """

  def __init__(self, pushes: keras.Variable) -> None:
    (num_workers,) = pushes.shape
    self._pushes = pushes
    self.capacity = _PER_WORKER * num_workers

    def state(size, value=0):
      return tf.Variable(tf.fill(size, tf.constant(value, tf.int64)))

    self._first_valid = state([])
    # Of the dispatch in each row: its number, and how much of it is done.
    self._number = state([self.capacity], -1)
    self._done = state([self.capacity])
    # Of each worker: the row of the dispatch that it began last, and how many
    # of its pushes have been counted.
    self._row = state([num_workers])
    self._counted = state([num_workers])
    # Compiled, so that no push comes in between.
    self._begin = tf.function(self._book, jit_compile=True, autograph=False)

  def begin(
    self, dispatch: tf.Tensor, steps: tf.Tensor, worker: tf.Tensor
  ) -> tf.Tensor:
    """Notes that a worker begins a dispatch, or goes on with it.

    Args:
      dispatch: its number, shape=(), int64.
      steps: how many it has, shape=(), int64.
      worker: shape=(), int64.

    Returns:
      How many of the steps are done, shape=(), int64; all of them if it has
      been cancelled.
    """
    with tf.device(self._pushes.value.device):
      return self._begin(dispatch, steps, worker)

  def cancel(self, dispatch: int) -> None:
    """Has all dispatches below this number do nothing, if not begun yet."""
    self._first_valid.assign(dispatch)

  def _book(self, dispatch, steps, worker):
    # What everybody has pushed meanwhile is of the dispatch they began last.
    pushes = tf.convert_to_tensor(self._pushes.value)
    rows = tf.convert_to_tensor(self._row)
    done = tf.tensor_scatter_nd_add(
      self._done, rows[:, tf.newaxis], pushes - self._counted
    )
    self._counted.assign(pushes)

    row = dispatch % self.capacity
    is_known = tf.gather(self._number, row) == dispatch
    done_of_it = tf.where(is_known, tf.gather(done, row), 0)
    self._number.scatter_nd_update([[row]], [dispatch])
    self._done.assign(tf.tensor_scatter_nd_update(done, [[row]], [done_of_it]))
    self._row.scatter_nd_update([[worker]], [row])
    is_valid = dispatch >= self._first_valid
    return tf.where(is_valid, tf.minimum(done_of_it, steps), steps)
