"""Tests for the published forecast."""

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf.predictors import forecast as forecast_lib
from tests.predictors.reports import number


def _line(level, slope, origin, drawn):
  values = (level, slope, origin, drawn)
  return forecast_lib.Forecast(*(tf.constant(v, tf.float64) for v in values))


class ForecastTest(parameterized.TestCase):
  @parameterized.parameters(
    (0.0, np.log(1e-3)),
    (0.999, 0.0),
    (np.e - 1e-3, 1.0),
    (-5.0, np.log(1e-3)),
    (np.inf, np.inf),
  )
  def test_log_loss(self, loss, expected):
    y = forecast_lib.log_loss(tf.constant(loss))
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-7)

  @parameterized.parameters(False, True)
  def test_log_loss_does_not_hide_what_is_not_a_number(self, jit_compile):
    log_loss = tf.function(forecast_lib.log_loss, jit_compile=jit_compile)
    self.assertTrue(np.isnan(log_loss(tf.constant(np.nan))))

  @parameterized.parameters((-1.0, False), (0.0, True), (17.0, True))
  def test_is_ready(self, drawn, expected):
    self.assertEqual(
      bool(forecast_lib.is_ready(_line(0.0, 0.0, 0.0, drawn))), expected
    )

  @parameterized.parameters(
    # Drawn now, at version 10: yhat(v) = 1 - 0.5 (v - 8).
    (8, 10, np.exp(1.0)),
    (10, 10, 1.0),
    (12, 10, np.exp(-1.0)),
    # Five pushes later the line has moved along by five.
    (13, 15, np.exp(1.0)),
    (15, 15, 1.0),
    # yhat <= level + 3.
    (4, 10, np.exp(3.0)),
    (0, 10, np.exp(4.0)),
  )
  def test_predicted_loss(self, version, now, expected):
    line = _line(1.0, -0.5, 8.0, 10.0)
    loss = forecast_lib.predicted_loss(line, number(version), number(now))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    self.assertEqual(loss.dtype, tf.float32)

  @parameterized.parameters(
    (-2.0, np.exp(3.0)), (4.0, np.exp(7.0)), (300.0, np.exp(80.0))
  )
  def test_bound(self, level, expected):
    rising = _line(level, 1.0, 0.0, 10.0)
    loss = forecast_lib.predicted_loss(rising, number(1000), number(10))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)

  def test_large_losses_are_predicted_to_change(self):
    """As squared errors of numbers in the thousands do."""
    line = _line(np.log(1e6), -0.01, 8.0, 10.0)
    change = forecast_lib.predicted_change(
      line, number(8), number(10), number(10)
    )
    np.testing.assert_allclose(change, 1e6 * np.expm1(-0.02), rtol=1e-2)

  def test_predicted_change(self):
    line = _line(1.0, -0.5, 8.0, 10.0)
    change = forecast_lib.predicted_change(
      line, number(8), number(10), number(10)
    )
    np.testing.assert_allclose(change, 1.0 - np.e, rtol=1e-6)
    back = forecast_lib.predicted_change(
      line, number(10), number(8), number(10)
    )
    self.assertEqual(float(back), -float(change))
    fresh = forecast_lib.predicted_change(
      line, number(9), number(9), number(10)
    )
    self.assertEqual(float(fresh), 0.0)

  def test_predicts_no_change_before_it_is_ready(self):
    line = _line(1.0, -0.5, 8.0, -1.0)
    change = forecast_lib.predicted_change(
      line, number(2), number(5), number(5)
    )
    self.assertEqual(float(change), 0.0)

  def test_predicts_no_change_beyond_its_bound(self):
    line = _line(3.0, 0.1, 0.0, 10.0)
    change = forecast_lib.predicted_change(
      line, number(40), number(60), number(10)
    )
    self.assertEqual(float(change), 0.0)

  def test_is_exact_at_large_versions(self):
    origin = 2.0**40
    line = _line(0.0, -0.25, origin, origin + 2)
    now = number(2**40 + 2)
    change = forecast_lib.predicted_change(line, now - 2, now, now)
    np.testing.assert_allclose(change, np.exp(-0.5) - 1.0, rtol=1e-6)


if __name__ == "__main__":
  absltest.main()
