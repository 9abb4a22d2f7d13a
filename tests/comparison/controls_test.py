"""Tests for the rules without which a comparison would flatter LC-ASGD."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf import compensation, server
from lc_asgd_tf.comparison import controls
from lc_asgd_tf.compensation import loss_compensated

_RULES = {
  "capped": controls.CappedDelayCompensated(8.0, decay=0.9),
  "loss_scaled": controls.LossScaled(),
  "shuffled": controls.ShuffledRatio(cap=False, brake=1.5),
  "single_draw": controls.SingleDrawMetric(cap=False, brake=1.5),
}


def _arrival(change=0.0, typical_loss=1.0, loss=1.0, signals=None):
  """Returns what the server knows of a push."""
  return compensation.Arrival(
    staleness=tf.constant(3.0),
    loss=tf.constant(loss, tf.float32),
    predicted_change=tf.constant(change, tf.float32),
    typical_loss=tf.constant(typical_loss, tf.float32),
    num_workers=4,
    signals=signals,
  )


def _compensate(rule, g, d, ms, arrival=None):
  """Returns u as a server would compute it."""
  g, d, ms = (tf.constant(part) for part in (g, d, ms))
  sums = rule.measure(g, d, ms) if rule.measures else None
  coefficients = rule.coefficients(sums, arrival or _arrival())
  return rule.compensate(g, d, ms, coefficients).numpy()


def _push(rng, size=6):
  """Returns (g, d, MS) of magnitudes that vary."""
  g = rng.normal(size=size) * 10 ** rng.uniform(-3, 2)
  d = rng.normal(size=size) * 10 ** rng.uniform(-3, 1)
  ms = 0.95 * rng.exponential(size=size) + 0.05 * g * g
  return tuple(part.astype("float32") for part in (g, d, ms))


def _norm(vector):
  return np.linalg.norm(np.asarray(vector, "float64"))


class RuleTest(parameterized.TestCase):
  @parameterized.named_parameters(*_RULES.items())
  def test_survives_serialization(self, rule):
    config = keras.saving.serialize_keras_object(rule)
    restored = keras.saving.deserialize_keras_object(config)
    self.assertIs(type(restored), type(rule))
    self.assertEqual(vars(restored), vars(rule))

  @parameterized.product(
    name=list(_RULES), dtype=("float16", "bfloat16", "float32", "float64")
  )
  def test_keeps_the_dtype(self, name, dtype):
    rule = _RULES[name]
    g, d, ms = (
      tf.constant(part, dtype) for part in ([0.5, 1.0], [-0.5, 0.25], [1, 1])
    )
    sums = rule.measure(g, d, ms) if rule.measures else None
    arrival = _arrival(signals=tf.constant(rule.initial_signals))
    u = rule.compensate(g, d, ms, rule.coefficients(sums, arrival))
    self.assertEqual(u.dtype, dtype)
    self.assertEqual(u.shape, g.shape)


class CappedDelayCompensatedTest(parameterized.TestCase):
  def test_by_hand(self):
    # lambda = 2 / sqrt(MS) = (2, 1): g + lambda g*g*d = (3, 4), 25 in square;
    # g has 9 + 4 = 13.
    u = _compensate(
      controls.CappedDelayCompensated(2.0),
      *np.array([[3.0, 2.0], [0.0, 0.5], [1.0, 4.0]], "float32"),
    )
    np.testing.assert_allclose(
      u, np.array([3, 4]) * (13 / 25) ** 0.5, rtol=1e-6
    )

  @parameterized.parameters(2.0, 8.0, 30.0, 100.0)
  def test_is_never_longer_than_g(self, lambda_0):
    """It is DC-ASGD-a where that is no longer, and else as long as g."""
    capped = controls.CappedDelayCompensated(lambda_0)
    free = compensation.DelayCompensatedAdaptive(lambda_0)
    rng = np.random.default_rng(0)
    lengthened = 0
    for _ in range(200):
      push = _push(rng)
      u, v = (_compensate(rule, *push) for rule in (capped, free))
      self.assertLessEqual(_norm(u), _norm(push[0]) * (1 + 1e-6))
      if _norm(v) <= _norm(push[0]):
        np.testing.assert_array_equal(u, v)
      else:
        lengthened += 1
        np.testing.assert_allclose(
          u, v * (_norm(push[0]) / _norm(v)), rtol=1e-5
        )
    # Both occur.
    self.assertBetween(lengthened, 20, 180)

  def test_a_fresh_gradient_stays_as_it_is(self):
    g, _, ms = _push(np.random.default_rng(1))
    u = _compensate(controls.CappedDelayCompensated(), g, np.zeros_like(g), ms)
    np.testing.assert_array_equal(u, g)

  def test_no_gradient_is_no_update(self):
    _, d, ms = _push(np.random.default_rng(2))
    u = _compensate(controls.CappedDelayCompensated(), np.zeros_like(d), d, ms)
    np.testing.assert_array_equal(u, np.zeros_like(d))

  def test_adds_up_over_variables(self):
    rule = controls.CappedDelayCompensated(30.0)
    push = _push(np.random.default_rng(3))
    parts = [[part[s] for part in push] for s in (slice(0, 2), slice(2, 6))]
    sums = tf.add_n([rule.measure(*map(tf.constant, part)) for part in parts])
    (scale,) = rule.coefficients(sums, _arrival())
    u = [
      rule.compensate(*map(tf.constant, part), (scale,)).numpy()
      for part in parts
    ]
    self.assertLess(float(scale), 0.9)
    np.testing.assert_allclose(
      np.concatenate(u), _compensate(rule, *push), rtol=1e-6
    )

  def test_measures_small_floats_in_float32(self):
    # lambda = 2 / 200, g + lambda g*g*d = 200 - 400 / 4; 65504 is the largest.
    push = ([200.0, 200.0], [-0.25, -0.25], [4e4, 4e4])
    sums = controls.CappedDelayCompensated().measure(
      *(tf.constant(part, "float16") for part in push)
    )
    np.testing.assert_allclose(sums, [8e4, 2e4], rtol=1e-2)

  @parameterized.parameters(1, 2)
  def test_on_a_server(self, num_shards):
    """Two workers in turns; what the server subtracts is u."""
    rng = np.random.default_rng(4)
    initial = [rng.normal(size=n).astype("float32") for n in (2, 3, 1)]
    gradients = rng.normal(size=(12, 6)) * 3
    updates, free = (
      _updates(rule, initial, gradients, num_shards)
      for rule in (
        controls.CappedDelayCompensated(8.0),
        compensation.DelayCompensatedAdaptive(8.0),
      )
    )
    for u, g in zip(updates, gradients, strict=True):
      self.assertLessEqual(_norm(u), _norm(g) * (1 + 1e-4))
    self.assertGreater(max(map(_norm, free)), 2 * max(map(_norm, gradients)))
    np.testing.assert_allclose(
      updates, _capped_by_numpy(initial, gradients, 8.0), rtol=1e-3, atol=1e-4
    )

  def test_a_gradient_that_is_not_finite_counts_as_zero(self):
    gradients = np.ones((3, 2))
    gradients[1, 0] = np.nan
    updates = _updates(
      controls.CappedDelayCompensated(),
      [np.ones(1, "float32"), np.ones(1, "float32")],
      gradients,
      2,
    )
    np.testing.assert_array_equal(updates[1], [0.0, 0.0])
    self.assertTrue(np.all(np.isfinite(updates[2])))
    self.assertGreater(_norm(updates[2]), 0.5)


_LEARNING_RATE = 0.1


def _updates(rule, initial, gradients, num_shards):
  """Returns u of each push of two workers that take turns on a server."""
  variables = [keras.Variable(value) for value in initial]
  placement = [variables] if num_shards == 1 else [variables[:1], variables[1:]]
  host = server.Server(
    placement,
    [keras.optimizers.SGD(_LEARNING_RATE) for _ in placement],
    rule,
    num_workers=2,
    devices=["CPU:0"] * num_shards,
    jit_compile=False,
  )
  ends = np.cumsum([len(value) for value in initial])[:-1]
  replies = [host.pull(tf.constant(m, tf.int64)) for m in range(2)]

  def weights():
    return np.concatenate([w.numpy() for s in host.shards for w in s.weights])

  updates = []
  for push, gradient in enumerate(gradients):
    worker = push % 2
    parts = [tf.constant(g, tf.float32) for g in np.split(gradient, ends)]
    parts = [parts] if num_shards == 1 else [parts[:1], parts[1:]]
    before = weights()
    replies[worker] = host.push(
      tf.constant(worker, tf.int64),
      host.messages(parts, tf.constant(1.0)),
      replies[worker],
    )
    updates.append((before - weights()) / _LEARNING_RATE)
  return np.array(updates)


def _capped_by_numpy(initial, gradients, lambda_0):
  """Returns the same from the equations."""
  w = np.concatenate(initial).astype("float64")
  snapshots = [w, w]
  ms = np.zeros_like(w)
  updates = []
  for push, g in enumerate(gradients):
    ms = 0.95 * ms + 0.05 * g * g
    d = w - snapshots[push % 2]
    u = g + lambda_0 / np.sqrt(ms + 1e-7) * g * g * d
    u *= min(1.0, np.linalg.norm(g) / np.linalg.norm(u))
    w = w - _LEARNING_RATE * u
    snapshots[push % 2] = w
    updates.append(u)
  return updates


class LossScaledTest(parameterized.TestCase):
  @parameterized.parameters(
    # (Delta, typical loss, factor).
    (0.0, 1.0, 1.0),
    (-0.5, 0.999, 0.5),
    (1.0, 0.999, 2.0),
    (1.0, 1.999, 1.5),
    # No loss is negative.
    (-3.0, 1.0, 0.0),
    (0.001, 0.0, 2.0),
  )
  def test_scales_by_the_ratio_of_the_losses(self, change, typical, factor):
    g = np.array([1.0, -2.0], "float32")
    arrival = _arrival(change=change, typical_loss=typical)
    u = _compensate(_RULES["loss_scaled"], g, 0 * g, 0 * g, arrival)
    np.testing.assert_allclose(u, factor * g, rtol=1e-6)

  def test_asks_for_a_prediction_and_nothing_else(self):
    rule = _RULES["loss_scaled"]
    self.assertTrue(rule.uses_prediction)
    self.assertFalse(rule.uses_displacement or rule.measures)


class ShuffledRatioTest(parameterized.TestCase):
  def _run(self, pushes, seed=0):
    """Returns the lag of the ratio that each push used.

    Push n has the ratio n * 37 % 128 / 128: no other of the 127 before it has
    the same.
    """
    rule = controls.ShuffledRatio(cap=False, brake=0.0)
    ratios = np.arange(pushes) * 37 % 128 / 128
    losses = np.random.default_rng(seed).uniform(0.5, 2.0, size=pushes)
    # d'Dd = -2 g.d: b / a is 1 - r, which is trusted where so much is promised.
    promised = 1e9
    sums = tf.stack(
      loss_compensated.Sums(
        gd=-promised, dDd=2 * promised, gDd=-1.0, DdDd=3.0, gg=1.0
      )
    )

    @tf.function
    def push(signals, ratio, loss):
      arrival = _arrival()._replace(
        predicted_change=-ratio * promised, loss=loss, signals=signals
      )
      signals = rule.observe(sums, arrival)
      a, b, *_ = rule.coefficients(sums, arrival._replace(signals=signals))
      return signals, 1.0 - b / a

    signals = tf.constant(rule.initial_signals)
    used = []
    for ratio, loss in zip(ratios, losses, strict=True):
      signals, other = push(
        signals, *(tf.constant(v, tf.float32) for v in (ratio, loss))
      )
      used.append(float(other))
    used = np.rint(np.array(used) * 128)
    own = np.rint(ratios * 128)
    lags = np.full(pushes, -1)
    for n in range(128, pushes):
      lags[n] = int(np.flatnonzero(own[n - 127 : n + 1][::-1] == used[n])[0])
    return own[128:], used[128:], lags[128:]

  def test_uses_the_ratios_of_the_latest_63_others(self):
    _, _, lags = self._run(1500)
    self.assertEqual(set(lags), set(range(1, 64)))
    # Evenly: 22 of each, give or take five standard deviations.
    self.assertBetween(np.bincount(lags)[1:].min(), 1, 22)
    self.assertLess(np.bincount(lags).max(), 46)

  def test_keeps_the_distribution_and_forgets_the_push(self):
    own, used, _ = self._run(1500)
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
      self.assertAlmostEqual(
        np.quantile(used, share), np.quantile(own, share), delta=10
      )
    self.assertLess(abs(np.corrcoef(own, used)[0, 1]), 0.1)

  def test_is_determined_by_the_losses(self):
    lags, again, other = (
      self._run(300, seed)[2].tolist() for seed in (1, 1, 2)
    )
    self.assertEqual(lags, again)
    self.assertNotEqual(lags, other)

  def test_all_but_the_ratio_is_as_in_lc_asgd(self):
    """With the cap off, the brake makes a and the window T / M of it."""
    rng = np.random.default_rng(0)
    ledgers = [
      server.Ledger(3, rule(cap=False))
      for rule in (controls.ShuffledRatio, compensation.LossCompensated)
    ]
    factors, ratios = ([], []), ([], [])
    for push in range(40):
      line = [0.1, rng.normal() / 10, push, push]
      sums = loss_compensated.Sums(
        gd=-rng.uniform(0.1, 1), dDd=2.0, gDd=-1.0, DdDd=3.0, gg=1.0
      )
      loss = rng.uniform(0.5, 2.0)
      for k, ledger in enumerate(ledgers):
        ledger.loss_forecast.assign(line)
        (a, b, _, share), _, _ = ledger.arrive(
          tf.constant(push % 3, tf.int64),
          tf.constant(loss, tf.float32),
          tf.constant(tf.stack(sums), tf.float32),
        )
        factors[k].append((float(a), float(share)))
        ratios[k].append(float(b / a))
    np.testing.assert_array_equal(*factors)
    brakes, windows = np.transpose(factors[0])
    self.assertLess(min(brakes), 0.9 * max(brakes))
    self.assertLess(min(windows), max(windows))
    self.assertFalse(np.array_equal(*ratios))


class SingleDrawMetricTest(absltest.TestCase):
  def test_bends_by_the_squared_gradient(self):
    # g*g / sqrt(MS) d = (1 / 2 x 4, 4 / 4 x -3).
    bent = _RULES["single_draw"].bend(
      *map(tf.constant, ([1.0, 2.0], [4.0, -3.0], [4.0, 16.0]))
    )
    np.testing.assert_allclose(bent, [2.0, -3.0], rtol=1e-6)


if __name__ == "__main__":
  absltest.main()
