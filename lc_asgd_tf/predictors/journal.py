"""What the workers reported, in the order in which it arrived.

The journal is a ring of rows, one per push, shape=(capacity, 7), float64. Row
number n, counted from 0, is the report of the push that took the server from
version n to version n + 1, and lies at n % capacity. Hence "the history as it
stood when worker m pulled version v" is rows [0, v): a predictor can be
trained at any later time on exactly what was known then.
"""

from typing import NamedTuple

import tensorflow as tf

# Doubles hold versions exactly, up to 2^53 pushes.
DTYPE = tf.float64


class Report(NamedTuple):
  """One row, or several; each field has shape=(...), float64.

  Attributes:
    version: v_m, the version that the worker had pulled.
    loss: l, the minibatch loss at that version.
    worker: m, the worker's index.
    staleness: tau of the push, in updates.
    compute_seconds: from pull to gradient.
    communication_seconds: of the worker's previous push and pull.
    pulled_at: when the worker had pulled, in seconds of its own clock.
  """

  version: tf.Tensor
  loss: tf.Tensor
  worker: tf.Tensor
  staleness: tf.Tensor
  compute_seconds: tf.Tensor
  communication_seconds: tf.Tensor
  pulled_at: tf.Tensor


FIELDS = len(Report._fields)


def capacity_for(num_workers: int) -> int:
  """Returns how many rows to keep: at least 16 per worker."""
  return max(1024, 16 * num_workers)


def write(rows: tf.Variable, number: tf.Tensor, report: Report) -> None:
  """Writes row `number`, shape=() int64, over the oldest."""
  slot = number % rows.shape[0]
  row = tf.stack([tf.cast(field, DTYPE) for field in report])
  rows.scatter_nd_update([[slot]], [row])


def read(rows: tf.Tensor, numbers: tf.Tensor) -> Report:
  """Returns the rows with these numbers; fields get the shape of `numbers`."""
  picked = tf.gather(rows, numbers % rows.shape[0])
  return Report(*tf.unstack(picked, num=FIELDS, axis=-1))


def window(rows: tf.Tensor, end: tf.Tensor, length: int) -> Report:
  """Returns rows [end - length, end), oldest first.

  Args:
    rows: the ring.
    end: shape=(...), int64; >= length, or the window is not there yet.
    length: how many rows.

  Returns:
    Fields of shape=(..., length).
  """
  return read(
    rows, end[..., tf.newaxis] - length + tf.range(length, dtype=end.dtype)
  )
