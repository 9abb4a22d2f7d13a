"""Tests for the window of updates on their way."""

import math

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf import compensation
from lc_asgd_tf.compensation import loss_compensated, window


def _window(**fields):
  return window.Window(
    *(tf.constant(v, tf.float32) for v in window.INITIAL._replace(**fields))
  )


def _after(before, gd=-0.1, loss=1.0, change=0.0, num_workers=8):
  return window.window_update(
    before, *(tf.constant(v) for v in (gd, loss, change)), num_workers
  )


def _after_a_rise(signals, **settings):
  """Returns the coefficients where nothing was kept of a large promise.

  So large that it is taken at its word; the loss rises by a fifth, which the
  brake halves.
  """
  rule = compensation.LossCompensated(cap=False, **settings)
  sums = loss_compensated.Sums(gd=-1e6, dDd=1e6, gDd=0.0, DdDd=1.0, gg=1.0)
  arrival = compensation.Arrival(
    staleness=tf.constant(3.0),
    loss=tf.constant(np.inf),  # No bound.
    predicted_change=tf.constant(0.2 * 1.001),
    typical_loss=tf.constant(1.0),
    num_workers=4,
    signals=signals,
  )
  return rule.coefficients(tf.stack(sums), arrival)


# As after 100 pushes that promised a tenth of a loss of 1, as at first.
_SETTLED = {"pushes": 100.0, "promise": 0.1, "loss": 1.0, "first_loss": 1.0}


class WindowTest(parameterized.TestCase):
  @parameterized.parameters(
    # (l, Delta, l_0, p): a fifth at least; 4 sqrt(0.01).
    (0.999, 0.0, 0.999, 0.2),
    (0.999, 0.5, 0.5, 0.2),
    (0.999, -0.0001, 0.999, 0.2),
    (0.999, -0.01, 0.999, 0.4),
    (1.999, -0.02, 1.999, 0.4),
    # 3 (1 / 2)^2, the larger one of both, and 1 at most.
    (0.999, 0.0, 1.999, 0.75),
    (0.999, -0.01, 1.999, 0.75),
    (0.999, -0.04, 1.999, 0.8),
    (0.999, -0.9, 0.999, 1.0),
    (0.0, 0.0, 999.0, 1.0),
  )
  def test_allowed_share(self, loss, change, first, expected):
    allowed = window.allowed_share(*map(tf.constant, (loss, change, first)))
    np.testing.assert_allclose(allowed, expected, rtol=1e-4)

  @parameterized.parameters(
    # (M, before, g.d, doublings): slow start, growth after it, retreat.
    (8, 0.0, -0.001, 1 / 64),
    (8, 1.0, -0.001, 1 / 256),
    (8, 0.0, -9.0, -2 / 16),
    (8, 1.0, 9.0, -2 / 16),
    (16, 1.0, 9.0, -2 / 16),
    (64, 1.0, -0.001, 1 / 256),
    (128, 0.0, -0.001, 1 / 128),
    (128, 1.0, -0.001, 1 / 512),
    (128, 1.0, -99.0, -2 / 128),
  )
  def test_grows_and_gives_way(self, num_workers, gave_way, gd, doublings):
    settled = _SETTLED | {"promise": 0.0, "pushes": 1000.0, "worst": 9.0}
    before = _window(**settled, log_size=1.0, gave_way=gave_way)
    after = _after(before, gd=gd, num_workers=num_workers)
    expected = 1.0 + doublings * math.log(2)
    np.testing.assert_allclose(after.log_size, expected, rtol=1e-6)

  @parameterized.parameters(
    # (M, before, q, doublings): 2 p / q times as fast, 8 at most, before the
    # window first had to give way.
    (8, 0.0, 0.4, 1 / 64),
    (8, 0.0, 0.2, 2 / 64),
    (8, 0.0, 0.1, 4 / 64),
    (8, 0.0, 0.01, 8 / 64),
    (128, 0.0, 0.1, 4 / 128),
    (8, 1.0, 0.1, 1 / 256),
  )
  def test_starts_faster_where_all_would_be_harmless(
    self, num_workers, gave_way, worst, doublings
  ):
    before = _window(
      **(_SETTLED | {"promise": 0.0, "pushes": 1000.0}),
      worst=worst,
      gave_way=gave_way,
    )
    after = _after(before, gd=0.0, num_workers=num_workers)
    expected = doublings * math.log(2)
    np.testing.assert_allclose(after.log_size, expected, rtol=1e-5)

  @parameterized.parameters((8, 16), (32, 32))
  def test_the_first_round_is_slow(self, num_workers, first):
    state, sizes = _window(), [0.0]
    for _ in range(first + 2):
      state = _after(state, gd=0.0, num_workers=num_workers)
      sizes.append(float(state.log_size))
    slow, fast = math.log(2) / 64, math.log(2) / 8
    np.testing.assert_allclose(
      np.diff(sizes), [slow] * first + [fast] * 2, rtol=1e-4
    )

  def test_worst_is_of_the_whole_learning_rate(self):
    # An average promise of 0.1 at a window of 2 of 8, so 0.4 at 8.
    before = _window(**_SETTLED, log_size=math.log(2.0), worst=0.1)
    after = _after(before, gd=0.1)
    np.testing.assert_allclose(after.worst, 0.4 / 1.001, rtol=1e-5)
    np.testing.assert_allclose(
      _after(before._replace(worst=tf.constant(0.7)), gd=0.1).worst, 0.7
    )

  def test_room_is_a_logarithm(self):
    # The average promise becomes 0.1 + (0.66 - 0.1) / 8 = 0.17.
    after = _after(_window(**_SETTLED, log_size=1.0, worst=9.0), gd=0.66)
    np.testing.assert_allclose(after.promise, 0.17, rtol=1e-6)
    expected = 1 + math.log(2) / 64 * math.log(0.2 * 1.001 / 0.17)
    np.testing.assert_allclose(after.log_size, expected, rtol=1e-6)

  @parameterized.parameters((0.0, -9.0, 0.0), (math.log(8), 0.0, math.log(8)))
  def test_stays_between_one_and_all(self, log_size, gd, expected):
    before = _window(**(_SETTLED | {"promise": 0.0}), log_size=log_size)
    after = _after(before, gd=gd)
    np.testing.assert_allclose(after.log_size, expected, atol=1e-6)

  def test_is_not_taken_aback_by_the_first_round(self):
    self.assertEqual(float(_after(_window(pushes=8.0), gd=-9.0).gave_way), 0)
    self.assertEqual(float(_after(_window(pushes=9.0), gd=-9.0).gave_way), 1)

  def test_averages_begin_with_the_mean(self):
    state = _window()
    for gd, loss in ((-0.5, 2.0), (0.25, 1.0), (-0.75, 3.0)):
      state = _after(state, gd=gd, loss=loss)
    np.testing.assert_allclose(state.promise, 0.5, rtol=1e-6)
    np.testing.assert_allclose(state.loss, 2.0, rtol=1e-6)

  @parameterized.parameters((8, 16), (32, 32))
  def test_first_loss_is_that_of_the_first_pushes(self, num_workers, first):
    state = _window()
    for push in range(first + 5):
      loss = 1.0 + push % 2 if push < first else 0.1
      state = _after(state, loss=loss, num_workers=num_workers)
    np.testing.assert_allclose(state.first_loss, 1.5, rtol=1e-5)

  @parameterized.parameters(
    # (g.d, l, bound).
    (0.0, 1.0, 1.0),
    (-0.5, 1.0, 1.0),
    (-1.998, 0.998, 0.5),
    (1.998, 0.998, 0.5),
    (-0.5, 0.0, 0.002),
  )
  def test_bound(self, gd, loss, expected):
    actual = window.bound(tf.constant(gd), tf.constant(loss))
    np.testing.assert_allclose(actual, expected, rtol=1e-2)

  @parameterized.parameters((1.0, 0.125), (4.0, 0.5), (8.0, 1.0))
  def test_share(self, size, expected):
    actual = window.share(_window(log_size=math.log(size)), 8)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)

  @parameterized.parameters(math.nan, math.inf)
  def test_a_loss_that_is_not_finite_says_nothing(self, loss):
    after = _after(_window(**_SETTLED), loss=loss)
    self.assertEqual(float(after.loss), 1.0)
    actual = window.bound(tf.constant(-9.0), tf.constant(loss))
    self.assertEqual(float(actual), 1.0)

  def test_a_negative_loss_does_not_turn_updates_around(self):
    after = _after(_window(**_SETTLED), loss=-3.0)
    np.testing.assert_allclose(after.loss, 0.875, rtol=1e-6)
    actual = window.bound(tf.constant(-9.0), tf.constant(-3.0))
    self.assertEqual(float(actual), 1.0)

  def test_one_worker_has_no_window(self):
    state = _window()
    for _ in range(5):
      state = _after(state, gd=0.0, num_workers=1)
    self.assertEqual(float(window.share(state, 1)), 1.0)

  def test_rule_scales_by_the_window_and_bound_of_this_very_push(self):
    rule = compensation.LossCompensated(ratio=1.0, brake=0.0)
    g, d, moment = (tf.constant([v]) for v in (1.0, -0.5, 1.0))
    sums = rule.measure(g, d, moment)
    arrival = compensation.Arrival(
      staleness=tf.constant(3.0),
      loss=tf.constant(0.249),
      predicted_change=tf.constant(0.0),
      typical_loss=tf.constant(2.0),
      num_workers=4,
      signals=tf.constant(rule.initial_signals),
    )
    arrival = arrival._replace(signals=rule.observe(sums, arrival))
    state = window.read(arrival.signals)
    self.assertEqual(float(state.promise), 0.5)
    coefficients = rule.coefficients(sums, arrival)
    # A loss of 0.25 at most, with the floor, and 0.5 promised.
    u = rule.compensate(g, d, moment, coefficients)
    np.testing.assert_allclose(u, [0.5], rtol=1e-6)
    # 0.2 x 0.25 allowed, 0.5 promised: smaller than 1, where it stays.
    self.assertEqual(float(rule.rate_factor(coefficients)), 0.25)

  @parameterized.parameters(
    # (the worst, caution): 0.2 of the loss is allowed.
    (0.0, 0.0),
    (0.1, 0.2),
    (0.2, 0.5),
    (0.6, 0.9),
  )
  def test_rule_steps_in_as_far_as_delays_do_harm(self, worst, caution):
    state = _window(loss=1.0, first_loss=1.0, worst=worst)
    self.assertAlmostEqual(
      float(window.severity(state)), worst / 0.2, delta=1e-6
    )
    a, b, *_ = _after_a_rise(tf.stack(state))
    self.assertAlmostEqual(float(a), 1 / (1 + caution), delta=1e-6)
    self.assertAlmostEqual(float(b / a), 2 * caution, delta=1e-6)

  def test_without_a_window_it_steps_in_all_the_way(self):
    a, b, _ = _after_a_rise(signals=None, window=False)
    np.testing.assert_allclose([a, b], [0.5, 1.0], rtol=1e-6)

  def test_without_a_window_the_learning_rate_is_left_alone(self):
    rule = compensation.LossCompensated(window=False)
    self.assertIsNone(rule.rate_factor((tf.constant(1.0), tf.constant(0.0))))

  def test_signals_are_the_window(self):
    self.assertLen(
      compensation.LossCompensated().initial_signals, len(window.INITIAL)
    )
    self.assertEqual(
      compensation.LossCompensated(window=False).initial_signals, ()
    )
    self.assertEqual(loss_compensated.Sums._fields[0], "gd")


if __name__ == "__main__":
  absltest.main()
