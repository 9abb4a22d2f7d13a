"""Weights of examples by their class."""

import operator
from collections.abc import Mapping

import keras
import tensorflow as tf

from lc_asgd_tf import errors


def weigh(
  dataset: tf.data.Dataset, class_weight: Mapping[int, float]
) -> tf.data.Dataset:
  """Returns the data set of (x, y, w_y), as `keras.Model.fit` would make it.

  Args:
    dataset: of (x, y), where y has a class per example, shape=(batch,) or
      (batch, 1), or one-hot vectors, shape=(batch, classes).
    class_weight: the weight of each class; 1 for those that it leaves out, and
      for what is no class, as the -1 of an example to be ignored.

  Raises:
    UserError: if it does not map integers >= 0 to numbers, or the data set has
      no y, several, one of unknown rank, or weights of its own.
  """
  try:
    weight_of = {operator.index(c): float(w) for c, w in class_weight.items()}
  except (AttributeError, TypeError, ValueError):
    weight_of = {-1: 0.0}
  if min(weight_of, default=0) < 0:
    raise errors.UserError(
      f"class_weight must map classes 0, 1, ... to weights, got {class_weight}."
    )
  _, y, sample_weight = keras.utils.unpack_x_y_sample_weight(
    dataset.element_spec
  )
  if sample_weight is not None:
    raise errors.UserError(
      "The data set has sample weights, and class_weight makes others: leave "
      "out one of the two."
    )
  if not isinstance(y, tf.TensorSpec) or y.shape.rank is None:
    raise errors.UserError(
      "class_weight needs a data set of (x, y) with a single y, of known rank."
    )
  beyond = max(weight_of, default=-1) + 1
  weights = [weight_of.get(c, 1.0) for c in range(beyond)] + [1.0]
  weights = tf.constant(weights, keras.backend.floatx())

  def add_weight(x, y):
    known = _class_of(y)
    known = tf.where((known < 0) | (known > beyond), beyond, known)
    return x, y, tf.gather(weights, known)

  return dataset.map(add_weight)


def _class_of(y):
  """Returns the class of each example, int32."""
  if y.shape.rank > 1:
    if y.shape[-1] != 1:
      return tf.argmax(y, axis=-1, output_type=tf.int32)
    y = tf.squeeze(y, axis=-1)
  return tf.cast(y if y.dtype.is_integer else tf.round(y), tf.int32)
