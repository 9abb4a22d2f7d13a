"""How far a loss can fall, and what keeps quotients of it finite."""

import tensorflow as tf

# Keeps logarithms and quotients finite.
TINY = 1e-20
# Below it, a loss is as good as none: no change is a large part of it.
_FLOOR = 1e-3


def floored(loss: tf.Tensor) -> tf.Tensor:
  """Returns l + 1e-3, by which what the loss does is judged, shape=().

  Args:
    loss: l, shape=().
  """
  return loss + _FLOOR


def is_bounded(loss: tf.Tensor) -> tf.Tensor:
  """Returns whether the loss can fall by no more than l, shape=(), bool.

  Of a loss below zero nobody knows how far it can fall, nor of one that is not
  finite.

  Args:
    loss: l, shape=().
  """
  return tf.math.is_finite(loss) & (loss >= 0.0)
