"""Operations of XLA's for which TensorFlow has no public name.

They exist in functions that XLA compiles only.
"""

import functools
from collections.abc import Sequence

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops


def optimization_barrier(tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
  """Returns the same tensors, of which XLA does not know that they are.

  What is computed from them is not shared with what is computed from the
  originals: where memory is slow, computing twice beats remembering.

  Args:
    tensors: any.
  """
  return gen_xla_ops.xla_optimization_barrier(input=list(tensors))


def sums_of_rows(terms: Sequence[tf.Tensor]) -> list[tf.Tensor]:
  """Returns the sums of all terms over axis 1, each shape=(rows,), at once.

  Args:
    terms: of one shape=(rows, columns), float32.
  """
  return gen_xla_ops.xla_variadic_reduce_v2(
    inputs=list(terms),
    init_values=[tf.constant(0.0)] * len(terms),
    dimensions_to_reduce=[1],
    reducer=_adder(len(terms)),
  )


@functools.cache
def _adder(k):
  """Returns the function that adds up k pairs."""
  scalar = tf.TensorSpec([], tf.float32)
  with tf.init_scope():
    return tf.function(
      lambda *pair: tuple(map(tf.add, pair[:k], pair[k:])), autograph=False
    ).get_concrete_function(*[scalar] * (2 * k))
