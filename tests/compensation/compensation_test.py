"""Tests for what becomes of a late gradient."""

import functools

import hypothesis
import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from lc_asgd_tf import compensation
from lc_asgd_tf.compensation import compensation as compensation_base
from lc_asgd_tf.compensation import (
  delay_compensated,
  loss_compensated,
  staleness_aware,
)

# What becomes of g before the window scales it.
_loss = functools.partial(compensation.LossCompensated, window=False)

_RULES = {
  "uncompensated": compensation.Uncompensated(),
  "staleness_aware": compensation.StalenessAware(),
  "constant": compensation.DelayCompensatedConstant(),
  "constant_strong": compensation.DelayCompensatedConstant(lambda_0=0.5),
  "adaptive": compensation.DelayCompensatedAdaptive(),
  "adaptive_other": compensation.DelayCompensatedAdaptive(
    lambda_0=8.0, decay=0.9
  ),
  "loss": _loss(),
  "loss_other": _loss(
    decay=0.5,
    cap=False,
    brake=1.5,
    ratio=0.25,
    horizon="predicted",
    keep_momentum=True,
  ),
  "loss_ratio_0": _loss(ratio=0.0),
}

_SETTINGS = hypothesis.settings(
  max_examples=60, deadline=None, derandomize=True
)

# Magnitudes at which sums of squares of squares fit into float32.
_MAGNITUDE = st.floats(2**-10, 2**10, width=32)
_NUMBER = st.one_of(
  st.just(0.0), _MAGNITUDE, _MAGNITUDE.map(lambda value: -value)
)


@st.composite
def _pushes(draw, min_size=1):
  """Draws (g, d, MS), MS as it is after g has been added to any history."""
  size = draw(st.integers(min_size, 6))

  def vector(elements):
    return draw(hypothesis_numpy.arrays("float32", size, elements=elements))

  g, d = vector(_NUMBER), vector(_NUMBER)
  history = vector(st.floats(0, 2**20, width=32))
  ms = np.float32(0.95) * history + np.float32(0.05) * g * g
  return g, d, ms


def _arrival(staleness=3.0, loss=1.0, change=0.0, typical_loss=1.0):
  return compensation.Arrival(
    *(tf.constant(v, tf.float32) for v in (staleness, loss, change)),
    typical_loss=tf.constant(typical_loss, tf.float32),
  )


def _compensate(rule, g, d, ms, arrival=None):
  """Returns u as a server would compute it."""
  g, d, ms = (tf.constant(part) for part in (g, d, ms))
  sums = rule.measure(g, d, ms) if rule.measures else None
  coefficients = rule.coefficients(sums, arrival or _arrival())
  return rule.compensate(g, d, ms, coefficients).numpy()


def _wide(*arrays):
  return [np.asarray(array, "float64") for array in arrays]


class RuleTest(parameterized.TestCase):
  @parameterized.named_parameters(*_RULES.items())
  def test_survives_serialization(self, rule):
    config = keras.saving.serialize_keras_object(rule)
    restored = keras.saving.deserialize_keras_object(config)
    self.assertIs(type(restored), type(rule))
    self.assertEqual(restored.get_config(), rule.get_config())
    self.assertEqual(vars(restored), vars(rule))

  @parameterized.parameters(
    (
      compensation.DelayCompensatedConstant(0.5),
      {"lambda_0": 0.5},
    ),
    (
      compensation.DelayCompensatedAdaptive(8, decay=0.9),
      {"lambda_0": 8.0, "decay": 0.9},
    ),
    (
      _RULES["loss_other"],
      {
        "decay": 0.5,
        "cap": False,
        "brake": 1.5,
        "window": False,
        "ratio": 0.25,
        "horizon": "predicted",
        "keep_momentum": True,
      },
    ),
    (compensation.Uncompensated(), {}),
    (compensation.StalenessAware(), {}),
  )
  def test_config_is_the_arguments(self, rule, expected):
    self.assertEqual(rule.get_config(), expected)

  @parameterized.parameters(
    (compensation.DelayCompensatedConstant, {"lambda_0": -0.1}),
    (compensation.DelayCompensatedAdaptive, {"lambda_0": -0.1}),
    (compensation.DelayCompensatedAdaptive, {"decay": 1.0}),
    (compensation.DelayCompensatedAdaptive, {"decay": -0.1}),
    (compensation.LossCompensated, {"decay": 1.0}),
    (compensation.LossCompensated, {"decay": -0.1}),
    (compensation.LossCompensated, {"brake": -1.0}),
    (compensation.LossCompensated, {"ratio": -0.1}),
    (compensation.LossCompensated, {"ratio": 1.1}),
    (compensation.LossCompensated, {"ratio": float("nan")}),
    (compensation.LossCompensated, {"horizon": "past"}),
    (compensation.DelayCompensatedConstant, {"lambda_0": "much"}),
    (compensation.DelayCompensatedAdaptive, {"lambda_0": float("inf")}),
    (compensation.LossCompensated, {"decay": "slow"}),
    (compensation.LossCompensated, {"brake": None}),
    (compensation.LossCompensated, {"ratio": "half"}),
    (compensation.LookAhead, {"momentum": None}),
    (compensation.LookAhead, {"momentum": 1.0}),
  )
  def test_refuses(self, rule, arguments):
    ((name, value),) = arguments.items()
    with self.assertRaisesRegex(ValueError, f"{name} .*got {value!r}"):
      rule(**arguments)

  @parameterized.parameters(
    # What the server must keep for a rule: snapshots, a predictor, MS.
    ("uncompensated", False, False, None),
    ("staleness_aware", False, False, None),
    ("constant", True, False, None),
    ("adaptive", True, False, 0.95),
    ("adaptive_other", True, False, 0.9),
    ("loss", True, True, 0.95),
    ("loss_ratio_0", True, True, 0.95),
  )
  def test_says_what_it_needs(self, name, displacement, prediction, decay):
    rule = _RULES[name]
    self.assertEqual(rule.uses_displacement, displacement)
    self.assertEqual(rule.uses_prediction, prediction)
    self.assertEqual(rule.second_moment_decay, decay)

  def test_needs_no_prediction_if_nothing_depends_on_it(self):
    self.assertFalse(_loss(ratio=0.0, brake=0.0).uses_prediction)
    rule = compensation.LossCompensated(ratio=0.0, brake=0.0)
    self.assertTrue(rule.uses_prediction)

  @parameterized.product(
    rule=list(_RULES.values()),
    dtype=("float16", "bfloat16", "float32", "float64"),
  )
  def test_keeps_the_dtype(self, rule, dtype):
    g, d, ms = (
      tf.constant(part, dtype) for part in ([0.5, 1.0], [-0.5, 0.25], [1, 1])
    )
    sums = rule.measure(g, d, ms) if rule.measures else None
    u = rule.compensate(g, d, ms, rule.coefficients(sums, _arrival()))
    self.assertEqual(u.dtype, dtype)
    self.assertEqual(u.shape, g.shape)

  @_SETTINGS
  @hypothesis.given(push=_pushes())
  def test_a_fresh_gradient_stays_as_it_is(self, push):
    g, _, ms = push
    for name, rule in _RULES.items():
      u = _compensate(rule, g, np.zeros_like(g), ms, _arrival(staleness=0))
      np.testing.assert_array_equal(u, g, name)


class SecondMomentTest(parameterized.TestCase):
  def test_by_hand(self):
    moment = compensation_base.second_moment_update(
      tf.constant([2.0, -4.0, 0.0]), tf.constant([1.0, 0.0, 3.0]), 0.75
    )
    np.testing.assert_array_equal(moment, [1.75, 4.0, 2.25])


class StalenessAwareTest(parameterized.TestCase):
  @parameterized.parameters((0, 6.0), (1, 6.0), (2, 3.0), (3, 2.0), (12, 0.5))
  def test_divides_the_learning_rate_by_the_staleness(
    self, staleness, expected
  ):
    rule = _RULES["staleness_aware"]
    coefficients = rule.coefficients(None, _arrival(staleness=staleness))
    for factor in (
      staleness_aware.staleness_aware_factor(tf.constant(float(staleness))),
      rule.rate_factor(coefficients),
    ):
      np.testing.assert_allclose(6.0 * factor, expected, rtol=1e-6)
    u = rule.compensate(tf.constant([6.0]), None, None, coefficients)
    np.testing.assert_array_equal(u, [6.0])


class DelayCompensatedTest(parameterized.TestCase):
  def test_constant_by_hand(self):
    u = delay_compensated.constant_update(
      tf.constant([2.0, -2.0, 3.0, -3.0]),
      tf.constant([0.5, 0.5, -1.0, -1.0]),
      0.25,
    )
    # g*g, not abs(g), and it keeps no sign: 2 + 4 x 0.5 / 4 and so on.
    np.testing.assert_array_equal(u, [2.5, -1.5, 0.75, -5.25])

  def test_adaptive_by_hand(self):
    u = delay_compensated.adaptive_update(
      tf.constant([2.0, -2.0]),
      tf.constant([0.5, -0.5]),
      tf.constant([4.0, 16.0]),
      2.0,
    )
    # lambda = 2 / 2 and 2 / 4: 2 + 4 x 0.5, -2 - 0.5 x 4 x 0.5.
    np.testing.assert_allclose(u, [4.0, -3.0], rtol=1e-6)

  def test_adaptive_is_bounded_where_nothing_was_seen(self):
    u = delay_compensated.adaptive_update(
      tf.constant([1e-3]), tf.constant([1.0]), tf.constant([0.0]), 2.0
    )
    # 1e-3 + 2 / sqrt(1e-7) x 1e-6.
    np.testing.assert_allclose(u, [1e-3 + 6.324555e-3], rtol=1e-5)

  @_SETTINGS
  @hypothesis.given(push=_pushes())
  def test_pulls_towards_the_displacement(self, push):
    """The gradient of a convex function grows along d, by the diagonal."""
    g, d, ms = push
    for name in ("constant", "adaptive"):
      u = _compensate(_RULES[name], g, d, ms)
      wide_g, wide_d, wide_ms = _wide(g, d, ms)
      lam = 0.04 if name == "constant" else 2.0 / np.sqrt(wide_ms + 1e-7)
      np.testing.assert_allclose(
        u,
        wide_g + lam * wide_g**2 * wide_d,
        rtol=1e-5,
        # Where the two terms cancel.
        atol=1e-5 * np.max(np.abs(lam * wide_g**2 * wide_d), initial=0),
      )

  def test_no_strength_is_no_compensation(self):
    g, d, ms = np.array([[1.0, -2.0], [0.5, 3.0], [1.0, 1.0]], "float32")
    for rule in (
      compensation.DelayCompensatedConstant(0.0),
      compensation.DelayCompensatedAdaptive(0.0),
    ):
      np.testing.assert_array_equal(_compensate(rule, g, d, ms), g)


def _free(ratio):
  """Neither cap nor brake."""
  return _loss(ratio=ratio, cap=False, brake=0.0)


class LossCompensatedTest(parameterized.TestCase):
  def test_measures_five_sums(self):
    sums = loss_compensated.measure(
      tf.constant([1.0, 2.0]),
      tf.constant([4.0, -3.0]),
      tf.constant([2.0, -3.0]),
    )
    np.testing.assert_allclose(sums, [-2.0, 17.0, -4.0, 13.0, 5.0], rtol=1e-6)
    self.assertEqual(
      loss_compensated.Sums._fields, ("gd", "dDd", "gDd", "DdDd", "gg")
    )

  def test_bends_by_the_second_moment(self):
    bent = loss_compensated.bend(
      tf.constant([4.0, -3.0, 2.0]), tf.constant([0.5, 2.0, 0.0])
    )
    np.testing.assert_allclose(bent, [2.0, -6.0, 2e-7], rtol=1e-6)

  def test_measures_small_floats_in_float32(self):
    sums = loss_compensated.measure(
      *(tf.constant([300.0, 1.0], "float16") for _ in range(3))
    )
    self.assertEqual(sums.dtype, tf.float32)
    np.testing.assert_allclose(sums[-1], 90001.0, rtol=1e-6)

  @parameterized.parameters(
    # (g.d, Delta, r): the promise was kept; half; not at all; and beyond.
    (-2.0, -2.0, 1.0),
    (-2.0, -1.0, 0.5),
    (-2.0, 0.0, 0.0),
    (-2.0, 1.0, 0.0),
    (-2.0, -3.0, 1.0),
    # Nothing was promised.
    (0.0, -1.0, 1.0),
    (2.0, -1.0, 1.0),
    (2.0, 1.0, 1.0),
    (0.0, 0.0, 1.0),
  )
  def test_delivered_ratio(self, gd, change, expected):
    ratio = loss_compensated.delivered_ratio(
      tf.constant(gd), tf.constant(change)
    )
    self.assertEqual(float(ratio), expected)

  @parameterized.parameters(
    # (r, g.d, l, trusted): half where g.d is a twentieth of l, all at most.
    (0.0, -0.05, 0.999, 0.5),
    (0.5, -0.05, 0.999, 0.75),
    (0.0, -0.15, 0.999, 0.25),
    (0.0, -0.15, 2.999, 0.5),
    (0.0, -1e30, 0.999, 0.0),
    (0.0, -np.inf, 0.999, 0.0),
    (0.0, 0.0, 0.999, 1.0),
    (1.0, -0.05, 0.999, 1.0),
  )
  def test_trusted_ratio(self, ratio, gd, loss, expected):
    trust = loss_compensated.trust(tf.constant(gd), tf.constant(loss))
    trusted = loss_compensated.trusted_ratio(tf.constant(ratio), trust)
    np.testing.assert_allclose(trusted, expected, atol=1e-6)

  @parameterized.parameters(
    (0.0, 0.0), (0.5, 0.2), (1.0, 0.5), (3.0, 0.9), (np.inf, 1.0)
  )
  def test_caution(self, severity, expected):
    caution = loss_compensated.caution(tf.constant(severity))
    np.testing.assert_allclose(caution, expected, rtol=1e-6)

  @_SETTINGS
  @hypothesis.given(push=_pushes())
  def test_a_kept_promise_changes_nothing(self, push):
    g, d, ms = push
    for cap in (False, True):
      rule = _loss(ratio=1.0, cap=cap)
      np.testing.assert_array_equal(_compensate(rule, g, d, ms), g)

  @_SETTINGS
  @hypothesis.given(push=_pushes(), ratio=st.floats(0, 1, width=32))
  def test_no_promise_changes_nothing(self, push, ratio):
    g, d, ms = push
    # Towards where the loss rises.
    d = np.abs(d) * np.sign(g)
    np.testing.assert_array_equal(_compensate(_free(ratio), g, d, ms), g)

  @_SETTINGS
  @hypothesis.given(push=_pushes(), ratio=st.floats(0, 1, width=32))
  def test_ratio_sets_the_part_along_the_displacement(self, push, ratio):
    """At 1/2 that part is removed, at 0 reflected: u.d = (2 r - 1) g.d."""
    g, d, ms = push
    wide_g, wide_d, wide_ms = _wide(g, d, ms)
    hypothesis.assume(wide_g @ wide_d < -1e-2)
    for r in (0.0, 0.5, ratio):
      u = _wide(_compensate(_free(r), g, d, ms))[0]
      # The sum may cancel; its terms may not be wrong by more than float32.
      scale = np.sum(np.abs(u * wide_d)) + np.sum(np.abs(wide_g * wide_d))
      expected = (2 * r - 1) * (wide_g @ wide_d)
      np.testing.assert_allclose(u @ wide_d, expected, atol=3e-6 * scale)
      # What is added lies along D d, and nowhere else.
      bent = (wide_ms + 1e-7) * wide_d
      added = u - wide_g
      rest = added - (added @ bent) / (bent @ bent) * bent
      np.testing.assert_allclose(
        rest, 0.0, atol=1e-5 * (np.linalg.norm(u) + np.linalg.norm(wide_g))
      )

  @_SETTINGS
  @hypothesis.given(push=_pushes(), kept=st.floats(0, 1, width=32))
  def test_surrogate_agrees_with_the_prediction(self, push, kept):
    """g.d + 1/2 lambda d'Dd = Delta, with lambda what u added of D d."""
    g, d, ms = push
    sums = loss_compensated.Sums(
      *tf.unstack(_loss().measure(*map(tf.constant, (g, d, ms))))
    )
    hypothesis.assume(float(sums.gd) < -1e-2)
    change = kept * float(sums.gd)
    ratio = loss_compensated.delivered_ratio(sums.gd, tf.constant(change))
    scale, weight = loss_compensated.coefficients(
      sums, ratio, tf.constant(change), tf.constant(1.0), cap=False
    )
    self.assertEqual(float(scale), 1.0)
    curved = float(sums.gd) + 0.5 * float(weight) * float(sums.dDd)
    np.testing.assert_allclose(
      curved, change, rtol=1e-5, atol=1e-5 * abs(float(sums.gd))
    )

  @_SETTINGS
  @hypothesis.given(
    push=_pushes(),
    ratio=st.floats(0, 1, width=32),
    change=st.floats(-10, 10, width=32),
  )
  def test_cap_never_lengthens(self, push, ratio, change):
    g, d, ms = push
    norm = np.linalg.norm(_wide(g)[0])
    for rule in (
      _loss(ratio=ratio),
      _loss(ratio=ratio, brake=0.0),
      _loss(),
    ):
      u = _wide(_compensate(rule, g, d, ms, _arrival(change=change)))[0]
      self.assertLessEqual(np.linalg.norm(u), norm * (1 + 1e-5))

  @_SETTINGS
  @hypothesis.given(push=_pushes(min_size=2), ratio=st.floats(0, 1, width=32))
  def test_cap_only_shortens(self, push, ratio):
    """It keeps the direction, and is not there where u is short enough."""
    g, d, ms = push
    free = _wide(_compensate(_free(ratio), g, d, ms))[0]
    rule = _loss(ratio=ratio, brake=0.0)
    capped = _wide(_compensate(rule, g, d, ms))[0]
    norm, length = np.linalg.norm(_wide(g)[0]), np.linalg.norm(free)
    expected = free * min(1.0, norm / max(length, 1e-30))
    np.testing.assert_allclose(capped, expected, atol=2e-5 * norm)

  @parameterized.parameters(
    # (Delta, typical loss, brake, factor).
    (0.0, 1.0, 5.0, 1.0),
    (-3.0, 1.0, 5.0, 1.0),
    (0.2, 0.999, 5.0, 0.5),
    (1.0, 0.999, 5.0, 1 / 6),
    (1.0, 1.999, 4.0, 1 / 3),
    (0.001, 0.0, 1.0, 0.5),
    (1.0, 0.999, 0.0, 1.0),
  )
  def test_brake(self, change, typical_loss, brake, factor):
    g = np.array([1.0, -2.0], "float32")
    rule = _loss(brake=brake)
    arrival = _arrival(change=change, typical_loss=typical_loss)
    # The server did not move: nothing to compensate, but a rise to brake for.
    u = _compensate(rule, g, np.zeros_like(g), np.ones_like(g), arrival)
    np.testing.assert_allclose(u, factor * g, rtol=1e-6)

  def test_cap_comes_before_the_brake(self):
    g = np.array([1.0, 2.0], "float32")
    d = np.array([-0.1, -0.2], "float32")
    ms = np.array([0.0975, 0.39], "float32")
    arrival = _arrival(change=0.2, typical_loss=0.999)
    # r = 0, and without the cap u would be longer than g.
    free = _compensate(_free(0.0), g, d, ms)
    self.assertGreater(np.sum(free**2), 5.5)
    u = _compensate(_RULES["loss"], g, d, ms, arrival)
    np.testing.assert_allclose(np.sum(u**2), 5 / 4, rtol=1e-5)

  def test_scale_of_the_curvature_cancels(self):
    g, d, ms = np.array([[1.0, 2.0], [-0.1, 0.05], [1.0, 3.0]], "float32")
    rule = _free(0.0)
    np.testing.assert_allclose(
      _compensate(rule, g, d, ms),
      _compensate(rule, g, d, np.float32(100.0) * ms),
      rtol=1e-5,
    )

  def test_vectors_may_come_in_parts(self):
    """Sums over two variables compensate like sums over one."""
    g = np.array([1.0, -2.0, 0.5], "float32")
    d = np.array([-0.3, 0.1, 0.2], "float32")
    ms = np.array([1.0, 2.0, 0.5], "float32")
    rule = _loss(ratio=0.0)
    whole = _compensate(rule, g, d, ms)
    parts = [slice(0, 1), slice(1, 3)]
    sums = tf.add_n([rule.measure(g[p], d[p], ms[p]) for p in parts])
    coefficients = rule.coefficients(sums, _arrival())
    for p in parts:
      u = rule.compensate(
        *(tf.constant(part[p]) for part in (g, d, ms)), coefficients
      )
      np.testing.assert_allclose(u, whole[p], rtol=1e-6)

  @parameterized.parameters(
    (1.0, True), (np.nan, False), (np.inf, False), (-np.inf, False)
  )
  def test_accepts_what_is_finite(self, value, expected):
    rule = _RULES["loss"]
    for position in range(2):
      push = [np.ones(2, "float32") for _ in range(3)]
      push[position][1] = value
      sums = rule.measure(*map(tf.constant, push))
      self.assertEqual(bool(rule.accepts(sums)), expected)

  def test_others_accept_everything(self):
    for name in ("uncompensated", "staleness_aware", "constant", "adaptive"):
      self.assertIsNone(_RULES[name].accepts(None))

  @parameterized.parameters(
    # A tiny gradient, as large a displacement, a long memory of huge ones.
    (1e-12, -1.0, 1e-26),
    (1e-30, -1e-30, 0.0),
    (1e-3, -1e3, 1e30),
    (1.0, -0.2, 3e38),
    (1.0, -0.2, 1e37),
    (1e18, -1.0, 1e36),
    (1e-18, -1e18, 0.0),
  )
  def test_what_is_accepted_is_finite(self, g, d, ms):
    rule = _loss(ratio=0.0)
    push = [np.array([value], "float32") for value in (g, d, ms)]
    self.assertTrue(rule.accepts(rule.measure(*map(tf.constant, push))))
    u = _compensate(rule, *push)
    self.assertTrue(np.all(np.isfinite(u)), u)
    self.assertLessEqual(abs(u[0]), abs(g) * (1 + 1e-5))

  def test_a_tiny_gradient_is_not_mistaken_for_a_long_one(self):
    """The cap has nothing to do where u is shorter than g."""
    g = np.array([1e-11, 1e-11], "float32")
    d = np.array([-1.0, 0.5], "float32")
    ms = np.zeros(2, "float32")
    rule = _loss(ratio=0.5, brake=0.0)
    free = _compensate(_free(0.5), g, d, ms)
    self.assertLess(np.linalg.norm(_wide(free)), np.linalg.norm(_wide(g)))
    np.testing.assert_allclose(
      _compensate(rule, g, d, ms), free, rtol=0, atol=1e-12
    )


if __name__ == "__main__":
  absltest.main()
