"""Tests for the predictor of the staleness."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf import predictors
from lc_asgd_tf.predictors import journal
from tests.predictors import reports
from tests.predictors.reports import number

_SECONDS = (0.2, 0.2, 1.0, 6.0)
_EVERYONE = tf.range(len(_SECONDS), dtype=tf.int64)


def _built(**arguments):
  predictor = predictors.StepPredictor(**arguments)
  predictor.build(len(_SECONDS))
  return predictor


def _values(predictor):
  """What was learned, and what Adam remembers; no counts, no seeds."""
  return [v.numpy() for v in predictor.variables if "float" in v.dtype]


def _learned(rows, first, last):
  predictor = _built()
  predictor.learn(reports.ring(rows), number(first), number(last))
  return _values(predictor)


class StepPredictorTest(parameterized.TestCase):
  def assert_same(self, ones, others):
    for one, other in zip(ones, others, strict=True):
      np.testing.assert_array_equal(one, other)

  def assert_differ(self, ones, others):
    self.assertTrue(
      any(np.any(a != b) for a, b in zip(ones, others, strict=True))
    )

  @parameterized.parameters(0, 1)
  def test_beats_the_overall_mean(self, seed):
    pushes, every = 500, 4
    rows = reports.simulate(_SECONDS, pushes, seed=seed)
    ring = reports.ring(rows)
    predictor = _built()

    @tf.function
    def step(first, last):
      predictor.learn(ring, first, last)
      return predictor.forecast(ring, last, _EVERYONE)

    errors, baseline = [], []
    for last in range(every, pushes, every):
      forecast = step(number(last - every), number(last)).numpy()
      for _, _, worker, staleness, *_ in rows[last : last + every]:
        if last < 100:
          continue
        errors.append(abs(forecast[int(worker)] - staleness))
        baseline.append(abs(np.mean(rows[:last, 3]) - staleness))
    self.assertLess(np.mean(errors), 0.6 * np.mean(baseline))

  def test_begins_by_repeating_the_recent_past(self):
    # Worker 1 was 1, 3 and 7 late; log2(1 + tau) = 1, 2, 3 is 2 on average.
    rows = np.zeros([6, journal.FIELDS])
    rows[:, 2] = [0, 1, 0, 1, 2, 1]
    rows[:, 3] = [5, 1, 5, 3, 0, 7]
    forecast = _built().forecast(reports.ring(rows), number(6), _EVERYONE)
    np.testing.assert_allclose(forecast, [5.0, 3.0, 0.0, -1.0], atol=1e-5)
    # The first four reports only; and the same in another order.
    forecast = _built().forecast(
      reports.ring(rows[:4]), number(4), tf.constant([2, 1], tf.int64)
    )
    np.testing.assert_allclose(forecast, [-1.0, np.sqrt(8) - 1], rtol=1e-5)

  @parameterized.parameters(20, 64)
  def test_looks_at_the_last_reports_of_each_worker(self, capacity):
    rows = np.zeros([50, journal.FIELDS])
    rows[:, 2] = np.arange(50) % 2
    rows[:, 3] = 100
    # Workers 0 and 1 take turns: the last three of each.
    rows[44:, 3] = [3, 7, 3, 7, 3, 7]
    forecast = _built(window=3).forecast(
      reports.ring(rows, capacity), number(50), _EVERYONE[:3]
    )
    # In a ring of any size: what it never held is not a report of worker 0.
    np.testing.assert_allclose(forecast, [3.0, 7.0, -1.0], rtol=1e-5)

  def test_knows_nobody_at_the_beginning(self):
    forecast = _built().forecast(reports.ring([]), number(0), _EVERYONE)
    np.testing.assert_array_equal(forecast, [-1.0] * 4)

  def test_is_never_negative(self):
    predictor = _built()
    predictor.network = lambda inputs: tf.fill([inputs.shape[0], 1], -9.0)
    rows = reports.simulate(_SECONDS, 60)
    forecast = predictor.forecast(reports.ring(rows), number(60), _EVERYONE)
    np.testing.assert_array_equal(forecast, [0.0] * 4)

  def test_network_sees_staleness_and_times(self):
    rows = np.zeros([4, journal.FIELDS])
    rows[:, 2] = [1, 0, 1, 1]
    rows[:, 3] = [1, 9, 3, 7]
    rows[:, 4] = [0.5, 9.0, 1.0, 2.0]
    rows[:, 5] = [0.1, 9.0, 0.0, 0.2]
    predictor = _built(window=4)
    seen = []

    def look(inputs):
      seen.append(inputs.numpy())
      return tf.zeros([1, 1])

    predictor.network = look
    predictor.forecast(
      reports.ring(rows), number(4), tf.constant([1], tf.int64)
    )
    log2 = np.log(2)
    np.testing.assert_allclose(
      seen[0][0],
      [
        [0, 0, 0, 0],
        [-log2, np.log(0.5), np.log(0.1), 1],
        [0, 0, np.log(1e-6), 1],
        [log2, log2, np.log(0.2), 1],
      ],
      atol=1e-4,
    )

  def test_trains_on_what_was_known_at_the_pull(self):
    rows = reports.simulate(_SECONDS, 200)
    mine = np.flatnonzero(rows[:, 2] == 3)
    report, previous = mine[-1], mine[-2]
    self.assertGreater(report - previous, 10)
    reference = _learned(rows, report, report + 1)
    for unseen in (slice(previous + 1, report), slice(report + 1, 200)):
      changed = reports.edited(rows, unseen, staleness=50, compute_seconds=9.0)
      self.assert_same(_learned(changed, report, report + 1), reference)
    for seen, value in ((previous, 900), (report, 0)):
      changed = reports.edited(rows, seen, staleness=value)
      self.assert_differ(_learned(changed, report, report + 1), reference)

  def test_trains_on_each_workers_reports_before_the_one_to_predict(self):
    rows = reports.simulate(_SECONDS, 100)
    predictor = _built(window=4, batch_size=20)
    network, seen = predictor.network, []

    class Look:
      trainable_variables = network.trainable_variables

      def __call__(self, inputs):
        seen.append(inputs.numpy())
        return network(inputs)

    predictor.network = Look()
    predictor.learn(reports.ring(rows), number(80), number(100))
    expected = np.zeros([20, 4])
    for i, report in enumerate(range(80, 100)):
      mine = rows[:report][rows[:report, 2] == rows[report, 2]][-4:]
      expected[i, 4 - len(mine) :] = np.log(mine[:, 4])
    np.testing.assert_allclose(seen[0][:, :, 1], expected, atol=1e-4)

  def test_learns_each_report_once(self):
    rows = reports.simulate(_SECONDS, 100)
    reference = _learned(rows, 80, 90)
    self.assert_differ(_learned(rows, 79, 90), reference)
    self.assert_differ(_learned(rows, 80, 91), reference)

  def test_losses_cannot_poison_it(self):
    rows = reports.simulate(_SECONDS, 100)
    poisoned = reports.edited(rows, slice(None), loss=np.nan)
    self.assert_same(_learned(poisoned, 80, 100), _learned(rows, 80, 100))

  def test_same_seed_same_weights(self):
    rows = reports.ring(reports.simulate(_SECONDS, 60))
    results = []
    for seed in (3, 3, 4):
      keras.random.uniform([3])
      predictor = _built(seed=seed)
      initial = [variable.numpy() for variable in predictor.variables]
      predictor.learn(rows, number(30), number(60))
      results.append(
        (initial, [variable.numpy() for variable in predictor.variables])
      )
    self.assert_same(results[0][0], results[1][0])
    self.assert_same(results[0][1], results[1][1])
    self.assert_differ(results[0][0], results[2][0])

  def test_survives_serialization(self):
    predictor = predictors.StepPredictor(
      units=3, window=5, learning_rate=0.1, batch_size=7, seed=11
    )
    config = keras.saving.serialize_keras_object(predictor)
    restored = keras.saving.deserialize_keras_object(config)
    self.assertIsInstance(restored, predictors.StepPredictor)
    self.assertEqual(vars(restored), vars(predictor))


if __name__ == "__main__":
  absltest.main()
