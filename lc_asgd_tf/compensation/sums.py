"""Several sums over the same elements in one pass over memory."""

from collections.abc import Sequence

import tensorflow as tf

from lc_asgd_tf.compensation import xla_ops

# Elements per partial sum: few, so that float32 loses little, and yet so many
# that a model of millions of weights has few partial sums.
_ROW = 4096


def totals(terms: Sequence[tf.Tensor]) -> tf.Tensor:
  """Returns the sum over each of some tensors, shape=(k,), float32.

  What the terms are computed from is read once for all of them, where
  `tf.reduce_sum` of each would read it k times; on large models this is what a
  push takes most of its time for. Only for functions that XLA compiles.

  Args:
    terms: k tensors of one shape, float32.
  """
  terms = [tf.reshape(term, [-1]) for term in terms]
  size = terms[0].shape.num_elements()
  rows = size // _ROW
  parts = []
  if rows:
    body = [tf.reshape(t[: rows * _ROW], [rows, _ROW]) for t in terms]
    parts.append(tf.reduce_sum(tf.stack(xla_ops.sums_of_rows(body)), axis=1))
  if size % _ROW:
    tail = [t[tf.newaxis, rows * _ROW :] for t in terms]
    parts.append(tf.concat(xla_ops.sums_of_rows(tail), axis=0))
  return tf.add_n(parts) if parts else tf.zeros([len(terms)])
