"""Tests for the predictors of the loss."""

import re
from concurrent import futures

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from flags import optimizer as optimizer_flags
from lc_asgd_tf import predictors
from lc_asgd_tf.predictors import forecast as forecast_lib
from lc_asgd_tf.predictors import journal
from tests.predictors import reports
from tests.predictors.reports import number

# Two fast, four middling, two slow: reports arrive far out of order.
_SECONDS = (0.3, 0.4, 1.0, 1.0, 1.1, 1.2, 3.0, 4.0)


def _decaying(version, rng):
  return (3.0 * np.exp(-version / 250) + 0.3) * np.exp(rng.normal(0, 0.25))


def _built(name, num_workers=8, **arguments):
  predictor = predictors.LOSS_PREDICTORS[name](**arguments)
  predictor.build(num_workers)
  return predictor


def _values(predictor):
  """What was learned, and what Adam remembers; no counts, no seeds."""
  return [
    v.numpy()
    for v in predictor.variables
    if "float" in v.dtype and v.name != "addition"
  ]


def _holt(rows, num_workers):
  """Holt's trend in error-correction form, on (version, log loss)."""
  alpha = min(0.2, 1 / (num_workers / 2 + 4))
  beta = alpha**2 / 4
  at, level, trend = rows[0, 0], np.log(rows[0, 1] + 1e-3), 0.0
  for version, loss in rows[1:, :2]:
    error = np.log(loss + 1e-3) - (level + trend * (version - at))
    if version > at:
      level += trend * (version - at)
      at = version
    level += alpha * error
    trend += beta * error
  return level, trend, at


class LossPredictorTest(parameterized.TestCase):
  def assert_same(self, ones, others):
    for one, other in zip(ones, others, strict=True):
      np.testing.assert_array_equal(one, other)

  def assert_differ(self, ones, others):
    self.assertTrue(
      any(np.any(a != b) for a, b in zip(ones, others, strict=True))
    )

  @parameterized.parameters(("lstm", 0), ("lstm", 1), ("holt", 0), ("holt", 1))
  def test_beats_persistence(self, name, seed):
    pushes, every = 600, 4
    rows = reports.simulate(_SECONDS, pushes, _decaying, seed)
    order = rows[:, 0]
    self.assertLess(np.min(np.diff(order)), 0)
    predictor = _built(name)
    ring = reports.ring(rows)

    @tf.function
    def step(first, last):
      predictor.learn(ring, first, last)
      return predictor.forecast(ring, last)

    errors, persistence = [], []
    for last in range(every, pushes, every):
      forecast = step(number(last - every), number(last))
      if last < 100:
        continue
      self.assertEqual(float(forecast.drawn), last)
      for following in range(last, min(last + every, pushes)):
        report = journal.Report(*rows[following])
        predicted = forecast_lib.predicted_loss(
          forecast, number(int(report.version)), number(last)
        )
        errors.append(abs(float(predicted) - report.loss))
        persistence.append(abs(rows[last - 1, 1] - report.loss))
    self.assertGreater(len(errors), 400)
    self.assertLess(np.mean(errors), 0.85 * np.mean(persistence))

  @parameterized.parameters("lstm", "holt")
  def test_sees_a_trend(self, name):
    """Losses that fall steadily are predicted to fall on."""
    rows = reports.simulate(
      _SECONDS, 400, lambda version, _: np.exp(1.0 - version / 100), seed=2
    )
    predictor = _built(name)
    ring = reports.ring(rows)
    learn = tf.function(predictor.learn)
    for last in range(4, 401, 4):
      learn(ring, number(last - 4), number(last))
    forecast = predictor.forecast(ring, number(400))
    now = forecast_lib.predicted_loss(forecast, number(400), number(400))
    np.testing.assert_allclose(np.log(now), -3.0, atol=0.05)
    self.assertBetween(float(forecast.slope), -0.02, -0.002)

  @parameterized.parameters("lstm", "holt")
  def test_says_nothing_before_a_dozen_reports(self, name):
    rows = reports.simulate(_SECONDS, 13, _decaying)
    ring = reports.ring(rows)
    predictor = _built(name)

    @tf.function
    def step(first, last):
      predictor.learn(ring, first, last)
      return predictor.forecast(ring, last)

    for last in range(14):
      forecast = step(number(max(last - 1, 0)), number(last))
      self.assertEqual(bool(forecast_lib.is_ready(forecast)), last >= 12, last)
      self.assertTrue(np.all(np.isfinite(tf.stack(forecast))))

  @parameterized.product(
    name=("lstm", "holt"), value=(np.nan, np.inf, -np.inf, -3.0)
  )
  def test_strange_losses_poison_nothing(self, name, value):
    rows = reports.simulate(_SECONDS, 120, _decaying)
    rows = reports.edited(rows, [14, 30, 31, 32, 33, 50, 77], loss=value)
    ring = reports.ring(rows)
    predictor = _built(name)

    @tf.function
    def step(first, last):
      predictor.learn(ring, first, last)
      return predictor.forecast(ring, last)

    for last in range(4, 121, 4):
      if last == 100:
        before = _values(predictor)
      forecast = step(number(last - 4), number(last))
      for variable in predictor.variables:
        self.assertTrue(np.all(np.isfinite(variable)), variable.name)
      change = forecast_lib.predicted_change(
        forecast, number(last - 3), number(last), number(last)
      )
      self.assertTrue(np.isfinite(change))
    # It recovers: it predicts and learns again.
    self.assertEqual(float(forecast.drawn), 120)
    self.assertBetween(float(forecast.level), np.log(0.3), np.log(6.0))
    self.assert_differ(_values(predictor), before)

  @parameterized.product(name=("lstm", "holt"), bad=(0, 5, 11))
  def test_learns_though_an_early_loss_was_not_finite(self, name, bad):
    rows = reports.simulate(_SECONDS, 120, _decaying)
    ring = reports.ring(reports.edited(rows, bad, loss=np.nan))
    predictor = _built(name)
    learn = tf.function(predictor.learn)
    for first in range(0, 110, 10):
      learn(ring, number(first), number(first + 10))
    before = _values(predictor)
    # Long after: no window of these reports has the bad one in it.
    self.assertGreater(np.min(rows[110:, 0]), 24)
    learn(ring, number(110), number(120))
    self.assert_differ(_values(predictor), before)

  @parameterized.parameters("lstm", "holt")
  def test_learns_nothing_from_no_reports(self, name):
    rows = reports.ring(reports.simulate(_SECONDS, 60, _decaying))
    predictor = _built(name)
    before = _values(predictor)
    predictor.learn(rows, number(40), number(40))
    self.assert_same(_values(predictor), before)

  def test_flags_name_all_of_them(self):
    self.assertEqual(
      optimizer_flags.LOSS_PREDICTORS, tuple(predictors.LOSS_PREDICTORS)
    )

  def test_get(self):
    self.assertIsInstance(predictors.get("lstm"), predictors.LSTMLossPredictor)
    self.assertIsInstance(predictors.get("holt"), predictors.HoltLossPredictor)
    self.assertIs(
      type(predictors.get("persistence")), predictors.PersistenceLossPredictor
    )
    mine = predictors.LSTMLossPredictor(units=3)
    self.assertIs(predictors.get(mine), mine)

  @parameterized.parameters("arima", "", None, 7, [["lstm"]])
  def test_get_refuses_what_it_does_not_know(self, identifier):
    name = re.escape(repr(identifier))
    with self.assertRaisesRegex(
      ValueError, f"Unknown loss predictor {name}.*lstm, holt"
    ):
      predictors.get(identifier)

  @parameterized.parameters(
    predictors.HoltLossPredictor(),
    predictors.PersistenceLossPredictor(),
    predictors.LSTMLossPredictor(
      units=3, window=5, learning_rate=0.1, batch_size=7, seed=11
    ),
  )
  def test_survives_serialization(self, predictor):
    config = keras.saving.serialize_keras_object(predictor)
    restored = keras.saving.deserialize_keras_object(config)
    self.assertIs(type(restored), type(predictor))
    self.assertEqual(vars(restored), vars(predictor))
    self.assertEqual(restored.get_config(), predictor.get_config())

  @parameterized.product(
    predictor=(predictors.LSTMLossPredictor, predictors.StepPredictor),
    case=(
      ({"units": 0}, ValueError, "units must be at least 1, got 0"),
      ({"units": 2.5}, TypeError, "units must be an int, got 2.5"),
      ({"window": 0}, ValueError, "window must be at least 1, got 0"),
      ({"batch_size": "x"}, TypeError, "batch_size must be an int, got 'x'"),
      ({"learning_rate": 0}, ValueError, "learning_rate must be a positive"),
      ({"learning_rate": np.inf}, ValueError, "learning_rate must be a posi"),
    ),
  )
  def test_networks_refuse_bad_arguments(self, predictor, case):
    arguments, error, message = case
    with self.assertRaisesRegex(error, message):
      predictor(**arguments)

  @parameterized.parameters(
    (predictors.LSTMLossPredictor, 3, 1024),
    (predictors.StepPredictor, 100, 1600),
  )
  def test_networks_see_no_more_than_there_is(self, new, num_workers, capacity):
    with self.assertRaisesRegex(ValueError, f"latest {capacity} reports"):
      new(units=2, window=capacity).build(num_workers)
    # An integer is a rate, too.
    new(units=2, window=capacity - 1, learning_rate=1).build(num_workers)


class HoltTest(parameterized.TestCase):
  def test_callers_at_once_take_no_report_twice(self):
    pushes = 300
    rows = reports.ring(reports.simulate(_SECONDS, pushes, _decaying))

    def trend(threads):
      holt = _built("holt")
      follow = tf.function(holt.follow, autograph=False)
      follow(rows, number(0), number(1))

      def run():
        for last in range(2, pushes + 1):
          follow(rows, number(last - 1), number(last))

      with futures.ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(run) for _ in range(threads)]:
          done.result()
      return holt.forecast(rows, number(pushes))

    np.testing.assert_array_equal(trend(4), trend(1))

  @parameterized.product(num_workers=(1, 2, 8, 128), chunk=(1, 7, 64))
  def test_follows_the_recursion(self, num_workers, chunk):
    rows = reports.simulate(_SECONDS, 64, _decaying, seed=num_workers)
    predictor = _built("holt", num_workers)
    ring = reports.ring(rows)
    learn = tf.function(predictor.learn)
    for first in range(0, 64, chunk):
      learn(ring, number(first), number(min(first + chunk, 64)))
    forecast = predictor.forecast(ring, number(64))
    expected = _holt(rows, num_workers)
    np.testing.assert_allclose(
      [forecast.level, forecast.slope, forecast.origin], expected, rtol=1e-9
    )

  def test_takes_the_latest_if_there_are_too_many(self):
    rows = reports.simulate(_SECONDS, 600, _decaying)
    ring = reports.ring(rows)
    predictor = _built("holt")
    predictor.learn(ring, number(0), number(600))
    latest = rows[600 - predictor.batch_size :]
    forecast = predictor.forecast(ring, number(600))
    np.testing.assert_allclose(
      [forecast.level, forecast.slope, forecast.origin],
      _holt(latest, len(_SECONDS)),
      rtol=1e-9,
    )

  def test_reads_a_ring_that_went_around(self):
    rows = reports.simulate(_SECONDS, 100, _decaying)
    predictor = _built("holt")
    for last in range(1, 101):
      predictor.learn(
        reports.ring(rows[:last], 16), number(last - 1), number(last)
      )
    forecast = predictor.forecast(reports.ring(rows, 16), number(100))
    np.testing.assert_allclose(
      [forecast.level, forecast.slope, forecast.origin],
      _holt(rows, len(_SECONDS)),
      rtol=1e-9,
    )


class PersistenceTest(parameterized.TestCase):
  def _forecasts(self, names, num_workers=8, pushes=120):
    """Returns each predictor's forecast after the same reports."""
    rows = reports.simulate(_SECONDS, pushes, _decaying, seed=num_workers)
    ring = reports.ring(rows)
    forecasts = []
    for name in names:
      predictor = _built(name, num_workers)
      learn = tf.function(predictor.learn)
      for first in range(0, pushes, 60):
        learn(ring, number(first), number(min(first + 60, pushes)))
      forecasts.append(predictor.forecast(ring, number(pushes)))
    return forecasts

  @parameterized.parameters(1, 8, 128)
  def test_level_is_that_of_holt_now(self, num_workers):
    now = number(120)
    flat, line = self._forecasts(("persistence", "holt"), num_workers)
    self.assertNotEqual(float(line.slope), 0.0)
    self.assertEqual(
      float(forecast_lib.predicted_loss(flat, now, now)),
      float(forecast_lib.predicted_loss(line, now, now)),
    )
    # And that is not the level alone, for the line's origin is not now.
    self.assertNotEqual(float(line.origin), 120)
    self.assertNotEqual(float(flat.level), float(line.level))

  @parameterized.parameters(120, 121, 150, 1000)
  def test_nothing_ever_changes(self, now):
    """Exactly so, at all horizons, also where the forecast lags behind."""
    flat, line = self._forecasts(("persistence", "holt"))
    now = number(now)
    level = float(forecast_lib.predicted_loss(flat, now, now))
    for ago in (1, 3, 20, 119):
      then = now - ago
      for start, end in ((then, now), (now, then), (now, now + ago)):
        change = forecast_lib.predicted_change(flat, start, end, now)
        self.assertEqual(float(change), 0.0)
        self.assertEqual(
          float(forecast_lib.predicted_loss(flat, end, now)), level
        )
      # Holt's changes.
      self.assertNotEqual(
        float(forecast_lib.predicted_change(line, then, now, now)), 0.0
      )

  def test_follows_the_level(self):
    early, late = (
      self._forecasts(("persistence",), pushes=pushes)[0].level
      for pushes in (60, 480)
    )
    self.assertLess(float(late), float(early) - 0.5)

  @parameterized.parameters((11, False), (12, True))
  def test_says_nothing_before_a_dozen_reports(self, pushes, ready):
    (flat,) = self._forecasts(("persistence",), pushes=pushes)
    self.assertEqual(bool(forecast_lib.is_ready(flat)), ready)


def _followed(ring, reports, **arguments):
  """Returns an LSTM predictor that knows the trend, and has learned nothing."""
  predictor = _built("lstm", **arguments)
  predictor._compiled_follow(ring, number(0), number(reports))
  return predictor


def _forecast(predictor, ring, now):
  """Returns what it forecasts if the network is asked now."""
  predictor._revise(ring, number(now))
  return predictor.forecast(ring, number(now))


def _stub(function):
  """A network of no variables."""
  return lambda inputs: tf.stack(function(inputs), axis=-1)


class LSTMTest(parameterized.TestCase):
  assert_same = LossPredictorTest.assert_same
  assert_differ = LossPredictorTest.assert_differ

  def test_draws_the_line_of_its_equation(self):
    rows = reports.simulate(_SECONDS, 40, _decaying)
    ring = reports.ring(rows)
    predictor = _followed(ring, 30)
    # A = 0.5 and S = -0.25, whatever the inputs.
    predictor.network = _stub(
      lambda x: [tf.fill([x.shape[0]], 0.5), tf.fill([x.shape[0]], -0.25)]
    )
    forecast = _forecast(predictor, ring, 30)
    level, slope, at = _holt(rows[:30], 8)
    # The newest version, and not that of the last report.
    self.assertNotEqual(rows[29, 0], at)
    self.assertEqual(float(forecast.origin), at)
    np.testing.assert_allclose(forecast.level, level + 0.5)
    np.testing.assert_allclose(forecast.slope, slope - 0.25 / 8)
    self.assertEqual(float(forecast.drawn), 30)

  def test_network_sees_what_the_trend_leaves_and_gaps(self):
    rows = reports.simulate(_SECONDS, 40, _decaying)
    ring = reports.ring(rows)
    predictor = _followed(ring, 40)
    seen = []

    def look(inputs):
      seen.append(inputs.numpy())
      return [tf.zeros(1), tf.zeros(1)]

    predictor.network = _stub(look)
    _forecast(predictor, ring, 30)
    level, slope, at = _holt(rows[:30], 8)
    versions = rows[18:30, 0]
    y = np.log(rows[18:30, 1] + 1e-3) - (level + slope * (versions - at))
    gaps = np.diff(versions, prepend=versions[0])
    np.testing.assert_allclose(
      seen[0][0], np.stack([y, gaps / 8], axis=-1), atol=1e-5
    )

  def test_adds_what_it_last_said_to_the_trend_of_now(self):
    rows = reports.simulate(_SECONDS, 40, _decaying)
    ring = reports.ring(rows)
    predictor = _followed(ring, 30)
    # Nothing, before it has learned.
    forecast = predictor.forecast(ring, number(30))
    self.assertTrue(forecast_lib.is_ready(forecast))
    level, slope, at = _holt(rows[:30], 8)
    np.testing.assert_allclose(
      [forecast.level, forecast.slope, forecast.origin], [level, slope, at]
    )
    before = _forecast(predictor, ring, 30)
    added = float(before.level) - level, float(before.slope) - slope
    self.assertGreater(min(map(abs, added)), 0.0)
    predictor.follow(ring, number(30), number(40))
    forecast = predictor.forecast(ring, number(40))
    level, slope, at = _holt(rows, 8)
    np.testing.assert_allclose(
      [forecast.level, forecast.slope, forecast.origin, forecast.drawn],
      [level + added[0], slope + added[1], at, 40],
    )

  def test_first_forecasts_are_nearly_the_trend(self):
    rows = reports.simulate(_SECONDS, 40, _decaying)
    ring = reports.ring(rows)
    level, slope, at = _holt(rows, 8)
    for seed in range(5):
      forecast = _forecast(_followed(ring, 40, seed=seed), ring, 40)
      self.assertEqual(float(forecast.origin), at)
      self.assertLess(abs(float(forecast.level) - level), 0.1)
      self.assertLess(abs(float(forecast.slope) - slope), 0.1 / len(_SECONDS))

  def test_says_nothing_without_a_trend(self):
    """As after more reports at once than a trend follows."""
    rows = reports.simulate(_SECONDS, 620, _decaying)
    ring = reports.ring(rows)
    predictor = _built("lstm")
    predictor.learn(ring, number(0), number(600))
    # The trend is that of the latest 512.
    level, slope, at = _holt(rows[88:600], 8)
    forecast = predictor.forecast(ring, number(600))
    self.assertTrue(forecast_lib.is_ready(forecast))
    self.assertEqual(float(forecast.origin), at)
    self.assertAlmostEqual(float(forecast.level), level, delta=0.1)
    for now in (30, 88, 601):
      forecast = predictor.forecast(ring, number(now))
      self.assertFalse(forecast_lib.is_ready(forecast), now)

  def test_forget_gates_begin_open(self):
    predictor = _built("lstm", units=5)
    (bias,) = (w for w in predictor.network.weights if w.shape == (20,))
    # Keras's order of gates: input, forget, cell, output.
    np.testing.assert_array_equal(
      np.reshape(bias, [4, 5]), np.repeat([[0], [1], [0], [0]], 5, axis=1)
    )

  def test_same_seed_same_weights(self):
    rows = reports.ring(reports.simulate(_SECONDS, 60, _decaying))
    results = []
    for seed in (3, 3, 4):
      # What others draw in between must not matter.
      keras.random.uniform([3])
      predictor = _followed(rows, 50, seed=seed)
      initial = [variable.numpy() for variable in predictor.variables]
      predictor.learn(rows, number(20), number(50))
      results.append(
        (initial, [variable.numpy() for variable in predictor.variables])
      )
    self.assert_same(results[0][0], results[1][0])
    self.assert_same(results[0][1], results[1][1])
    self.assert_differ(results[0][0], results[2][0])

  def _learned(self, rows, first, last, capacity=1024, **arguments):
    """Returns the network, and what Adam remembers, without the trends."""
    ring = reports.ring(rows, capacity)
    predictor = _followed(ring, last, **arguments)
    predictor.learn(ring, number(first), number(last))
    return _values(predictor)[:-1]

  def test_trains_on_what_was_known_at_the_pull(self):
    rows = reports.simulate(_SECONDS, 200, _decaying)
    late = int(np.argmax(rows[:, 3] * (np.arange(200) > 100)))
    pulled, staleness = int(rows[late, 0]), int(rows[late, 3])
    self.assertGreater(staleness, 12)
    reference = self._learned(rows, late, late + 1)
    # What arrived after the pull.
    for unseen in (slice(pulled, late), slice(late + 1, 200)):
      changed = reports.edited(rows, unseen, loss=9.0, version=1.0)
      self.assert_same(self._learned(changed, late, late + 1), reference)
    # The window, what came before it, and the report itself.
    for seen in (pulled - 1, pulled - 12, pulled - 13, late):
      changed = reports.edited(rows, seen, loss=9.0)
      self.assert_differ(self._learned(changed, late, late + 1), reference)

  def test_gets_closer_to_what_it_was_shown(self):
    rows = reports.simulate(_SECONDS, 60, _decaying)
    ring = reports.ring(rows)
    pulled, loss = int(rows[50, 0]), rows[50, 1]
    predictor = _followed(ring, 60)

    def error():
      # As it stood at the pull.
      line = predictor.forecast(reports.ring(rows[:pulled]), number(pulled))
      predicted = forecast_lib.predicted_loss(
        line, number(pulled), number(pulled)
      )
      return abs(float(predicted) - loss)

    before = error()
    learn = tf.function(predictor.learn)
    for _ in range(30):
      learn(ring, number(50), number(51))
    self.assertLess(error(), 0.25 * before)

  def test_learns_the_reports_it_is_asked_to(self):
    rows = reports.simulate(_SECONDS, 100, _decaying)
    # Each of these was pulled when there was a window.
    self.assertGreater(np.min(rows[78:, 0]), 12)
    reference = self._learned(rows, 80, 95)
    self.assert_differ(self._learned(rows, 79, 95), reference)
    self.assert_differ(self._learned(rows, 80, 96), reference)
    # Too many at once: the latest.
    latest = self._learned(rows, 40, 95, batch_size=15)
    np.testing.assert_allclose(latest[0], reference[0], atol=1e-6)

  def test_an_outlier_counts_no_more_than_a_large_residual(self):
    rows = reports.simulate(_SECONDS, 100, _decaying)
    self.assertGreater(np.min(rows[90:96, 0]), 12)
    # Report 95 is in no window of the others that are learned with it.
    outliers = [
      self._learned(reports.edited(rows, 95, loss=loss), 90, 96)
      for loss in (rows[95, 1], 1e6, 1e12)
    ]
    for one, other in zip(outliers[1], outliers[2], strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    self.assert_differ(outliers[0], outliers[1])

  @parameterized.parameters(np.nan, np.inf)
  def test_a_strange_loss_does_not_keep_the_others_from_teaching(self, value):
    rows = reports.simulate(_SECONDS, 100, _decaying)
    reference = self._learned(rows, 90, 95)
    # Report 95 is in no window of the others that are learned with it.
    strange = self._learned(reports.edited(rows, 95, loss=value), 90, 96)
    np.testing.assert_allclose(strange[0], reference[0], atol=1e-6)
    self.assert_differ(strange, self._learned(rows, 95, 95))

  def test_ignores_reports_whose_window_is_not_there(self):
    rows = reports.simulate(_SECONDS, 60, _decaying)
    untouched = self._learned(rows, 60, 60)
    # Pulled before a dozen reports were there.
    early = reports.edited(rows, 59, version=11.0)
    self.assert_same(self._learned(early, 59, 60), untouched)
    full = reports.edited(rows, 59, version=12.0)
    self.assert_differ(self._learned(full, 59, 60), untouched)
    # In a ring of 32 rows, rows [0, 28) are gone.
    gone = reports.edited(rows, 59, version=39.0)
    self.assert_same(self._learned(gone, 59, 60, capacity=32), untouched)
    kept = reports.edited(rows, 59, version=40.0)
    self.assert_differ(self._learned(kept, 59, 60, capacity=32), untouched)

  def test_adds_nothing_to_the_trend_where_it_cannot_tell(self):
    rows = reports.simulate(_SECONDS, 60, _decaying)
    ring = reports.ring(reports.edited(rows, 20, loss=np.nan))
    predictor = _followed(ring, 40)
    # 20 is not finite; 5 reports are too few; nobody has followed 41.
    for now, tells in (
      (5, False),
      (20, True),
      (21, False),
      (32, False),
      (33, True),
      (41, False),
    ):
      predictor._revise(ring, number(now))
      self.assertEqual(np.all(predictor._addition.numpy() != 0.0), tells, now)
      self.assertTrue(np.all(np.isfinite(predictor._addition)))
      # The trend goes on without it.
      forecast = predictor.forecast(ring, number(40))
      self.assertTrue(forecast_lib.is_ready(forecast))


if __name__ == "__main__":
  absltest.main()
