"""Tests for the precision in which weights travel."""

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from flags import training as training_flags
from lc_asgd_tf import errors
from lc_asgd_tf.server import wire


class WireTest(parameterized.TestCase):
  @parameterized.product(
    count=(0, 1, 2, 7, 64),
    dtype=wire.PULL_DTYPES,
    jit_compile=(False, True),
  )
  def test_rounds_and_nothing_else(self, count, dtype, jit_compile):
    line = wire.Wire(count, dtype)
    weights = np.random.default_rng(0).normal(size=count).astype("float32")

    @tf.function(jit_compile=jit_compile)
    def travel(weights):
      vector = line.encode(weights)
      self.assertEqual(vector.shape, [line.size])
      return line.decode(tf.concat([vector, [1.0, 2.0]], axis=0))

    arrived = travel(weights)[:count]
    expected = weights.astype(tf.as_dtype(dtype).as_numpy_dtype)
    np.testing.assert_array_equal(arrived, expected.astype("float32"))

  @parameterized.parameters(
    ("float32", 7, 7), ("bfloat16", 7, 4), ("float16", 8, 4)
  )
  def test_16_bits_take_half(self, dtype, count, size):
    self.assertEqual(wire.Wire(count, dtype).size, size)

  @parameterized.parameters("bfloat16", "float16")
  def test_no_number_is_lost(self, dtype):
    line = wire.Wire(5, dtype)
    values = tf.constant([np.inf, -np.inf, np.nan, 0.0, -0.0])
    np.testing.assert_array_equal(line.decode(line.encode(values)), values)

  @parameterized.parameters("float64", "int8", "", None)
  def test_refuses_other_types(self, dtype):
    with self.assertRaisesRegex(errors.UserError, "pull_dtype must be one of"):
      wire.Wire(3, dtype)

  def test_flag_names_all_of_them(self):
    self.assertEqual(training_flags.PULL_DTYPES, wire.PULL_DTYPES)


if __name__ == "__main__":
  absltest.main()
