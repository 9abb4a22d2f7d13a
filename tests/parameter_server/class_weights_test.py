"""Tests for weights of examples by their class."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf import errors
from lc_asgd_tf.parameter_server import class_weights

_CLASSES = np.array([0, 2, 1, 2])


def _weights(y, class_weight):
  x = np.zeros((len(y), 1), np.float32)
  dataset = tf.data.Dataset.from_tensors((x, y))
  ((_, _, weights),) = class_weights.weigh(dataset, class_weight)
  return weights


class WeighTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("classes", _CLASSES),
    ("column", _CLASSES[:, np.newaxis]),
    ("floats", _CLASSES.astype("float32")),
    ("one_hot", keras.utils.to_categorical(_CLASSES, 3)),
  )
  def test_every_example_has_the_weight_of_its_class(self, y):
    weights = _weights(y, {0: 3, np.int64(1): 0.5, 2: 2.0})
    self.assertEqual(weights.dtype, tf.float32)
    np.testing.assert_array_equal(weights, [3.0, 2.0, 0.5, 2.0])

  @parameterized.parameters(({0: 3.0},), ({0: 3.0, 3: 5.0},))
  def test_a_class_that_is_left_out_has_weight_1(self, class_weight):
    np.testing.assert_array_equal(
      _weights(_CLASSES, class_weight), [3.0, 1.0, 1.0, 1.0]
    )

  def test_what_is_no_class_has_weight_1(self):
    ignored = np.array([-1, 0, -7, 5])
    np.testing.assert_array_equal(
      _weights(ignored, {0: 3.0, 1: 2.0}), [1.0, 3.0, 1.0, 1.0]
    )

  def test_no_class_at_all(self):
    np.testing.assert_array_equal(_weights(_CLASSES, {}), np.ones(4))

  @parameterized.named_parameters(
    ("weights", (0.0, 0.0, 1.0), {0: 2.0}, "sample weights"),
    ("no_y", (0.0,), {0: 2.0}, "single y"),
    ("several", (0.0, {"a": 0.0, "b": 0.0}), {0: 2.0}, "single y"),
    ("names", (0.0, 0.0), {"cat": 2.0}, "cat"),
    ("negative", (0.0, 0.0), {-1: 2.0}, "-1"),
    ("no_mapping", (0.0, 0.0), [1.0, 2.0], r"got \[1.0, 2.0\]"),
    ("no_number", (0.0, 0.0), {0: None}, "got {0: None}"),
  )
  def test_refuses(self, batch, class_weight, named):
    dataset = tf.data.Dataset.from_tensors(batch).batch(1)
    with self.assertRaisesRegex(errors.UserError, named):
      class_weights.weigh(dataset, class_weight)


if __name__ == "__main__":
  absltest.main()
