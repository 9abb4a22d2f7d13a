"""Weights of examples by their class."""

import numbers
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
    UserError: if a class is no integer >= 0, the data set has no y, several, or
      weights of its own.
  """
  classes = list(class_weight)
  if not all(isinstance(c, numbers.Integral) and c >= 0 for c in classes):
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
  if not isinstance(y, tf.TensorSpec):
    raise errors.UserError(
      "class_weight needs a data set of (x, y) with a single y."
    )
  beyond = max(classes, default=-1) + 1
  weights = [class_weight.get(c, 1.0) for c in range(beyond)] + [1.0]
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
