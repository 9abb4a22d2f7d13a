"""What delays leave of an optimizer's momentum, and how far steps go then."""

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf import compensation
from lc_asgd_tf.compensation import momentum as momentum_lib


class ExplicitMomentumTest(parameterized.TestCase):
  @parameterized.parameters(
    # Nothing is late with one worker, and the momentum the same, bit for bit.
    (0.9, 1, 0.9),
    (0.1, 1, 0.1),
    (0.9, 0.5, 0.9),
    (0.9, 2, 0.8),
    (0.9, 8, 0.2),
    (0.9, 10, 0.0),
    (0.9, 128, 0.0),
    (0.8, 5, 0.0),
    (0.99, 32, 0.68),
    (0.5, 2, 0.0),
    (1.0, 8, 1.0),
  )
  def test_values(self, momentum, num_workers, expected):
    left = momentum_lib.explicit_momentum(momentum, num_workers)
    if num_workers <= 1 or expected == 0.0:
      self.assertEqual(left, expected)
    self.assertAlmostEqual(left, expected)

  @parameterized.named_parameters(
    ("lc_asgd", compensation.LossCompensated(), 0.8),
    ("kept", compensation.LossCompensated(keep_momentum=True), 0.9),
    ("dc_asgd", compensation.DelayCompensatedAdaptive(), 0.9),
  )
  def test_is_what_lc_asgd_leaves(self, rule, expected):
    self.assertAlmostEqual(rule.explicit_momentum(0.9, 2), expected)


class LongestStepTest(parameterized.TestCase):
  @parameterized.parameters(
    (2.0, 16.0, 0.5),
    (0.0, 1.0, 0.004),
    # Whoever has no gradient goes nowhere, however long the step.
    (2.0, 0.0, 8e20),
    # Of which nobody knows how far they can fall.
    (-1.0, 1.0, float("inf")),
    (float("nan"), 1.0, float("inf")),
    (float("inf"), 1.0, float("inf")),
    (1.0, float("nan"), float("inf")),
    (1.0, float("inf"), float("inf")),
  )
  def test_values(self, loss, squared_norm, expected):
    longest = momentum_lib.longest_step(
      tf.constant(loss), tf.constant(squared_norm)
    )
    np.testing.assert_allclose(float(longest), expected, rtol=1e-2)

  @parameterized.parameters(0.01, 1.0, 100.0)
  def test_descent_is_stable_up_to_it(self, curvature):
    weight = 3.0
    longest = float(
      momentum_lib.longest_step(
        tf.constant(0.5 * curvature * weight**2),
        tf.constant((curvature * weight) ** 2),
      )
    )
    for part, is_stable in ((0.9, True), (1.1, False)):
      after = weight - part * longest * curvature * weight
      self.assertEqual(abs(after) < abs(weight), is_stable)


if __name__ == "__main__":
  absltest.main()
