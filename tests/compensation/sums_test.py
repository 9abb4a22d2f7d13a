import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf.compensation import sums


class TotalsTest(parameterized.TestCase):
  # Less than a row of partial sums, whole rows, and more; no elements.
  @parameterized.parameters(0, 1, 4095, 4096, 4097, 50_000)
  def test_are_the_sums(self, size):
    random = np.random.default_rng(size)
    terms = random.normal(1.0, 1.0, (3, size)).astype(np.float32)
    totals = tf.function(sums.totals, jit_compile=True)(list(terms))
    expected = terms.astype(np.float64).sum(axis=1)
    self.assertEqual(totals.shape, (3,))
    np.testing.assert_allclose(totals, expected, rtol=2e-6, atol=1e-6)

  def test_any_shape(self):
    terms = [tf.ones([3, 5, 2]), 2 * tf.ones([3, 5, 2])]
    totals = tf.function(sums.totals, jit_compile=True)(terms)
    np.testing.assert_array_equal(totals, [30.0, 60.0])


if __name__ == "__main__":
  absltest.main()
