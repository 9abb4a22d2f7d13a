"""Tests for the server, without processes: pull, push and what they count."""

import functools
import gc
import itertools
import time
import weakref

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf import compensation, normalization, predictors, server
from lc_asgd_tf.server import snapshots
from tests.server import trajectories

_ADAPTIVE = compensation.DelayCompensatedAdaptive
_CONSTANT = compensation.DelayCompensatedConstant
# The window has rows of its own.
_LOSS = functools.partial(compensation.LossCompensated, window=False)


class _Driver:
  """Plays the workers of a server: keeps what each pulled last.

  Args:
    values: of the variables; the first half of them makes the first shard.
    rule: the rule.
    inner_optimizer: returns an optimizer.
    num_shards: 1 or 2.
    jit_compile: of the server; also whether to trace what it does.
    **kwargs: of the server.
  """

  def __init__(
    self,
    values,
    rule,
    inner_optimizer=lambda: keras.optimizers.SGD(0.1),
    num_shards=1,
    jit_compile=False,
    num_workers=2,
    **kwargs,
  ):
    variables = [
      keras.Variable(np.asarray(value, "float32"), name=f"v{i}")
      for i, value in enumerate(values)
    ]
    placement = [variables]
    if num_shards == 2:
      middle = (len(variables) + 1) // 2
      placement = [variables[:middle], variables[middle:]]
    self._sizes = [len(part) for part in placement]
    self.server = server.Server(
      placement,
      [inner_optimizer() for _ in placement],
      rule,
      num_workers=num_workers,
      devices=["CPU:0"] * num_shards,
      jit_compile=jit_compile,
      **kwargs,
    )
    trace = tf.function if jit_compile else lambda function: function
    self._pull = trace(self.server.pull)
    self._push = trace(self.server.push)
    self._replies = {}

  def pull(self, worker):
    """Returns weights (one list), version, buffers."""
    index = tf.constant(worker, tf.int64)
    self._replies[worker] = self._pull(index)
    return self.pulled(worker)

  def pulled(self, worker):
    """Returns weights, version, buffers as the worker pulled them last."""
    parts, version, buffers = self.server.open_replies(self._replies[worker])
    weights = [weight.numpy() for part in parts for weight in part]
    return weights, int(version), [buffer.numpy() for buffer in buffers]

  def push(self, worker, gradients, loss=1.0, **report):
    """Returns weights, version, buffers after the push."""
    gradients = [tf.constant(g, tf.float32) for g in gradients]
    first = self._sizes[0]
    parts = [gradients[:first], gradients[first:]][: len(self._sizes)]
    messages = self.server.messages(parts, tf.constant(loss), **report)
    self._replies[worker] = self._push(
      tf.constant(worker, tf.int64), messages, self._replies[worker]
    )
    return self.pulled(worker)

  def weights(self):
    return [
      weight.numpy() for part in self.server.shards for weight in part.weights
    ]

  def second_moments(self):
    return _flat(
      [m for part in self.server.shards for m in part.second_moments]
    )

  def statistics(self):
    values = self.server.ledger.statistics.numpy()
    return server.Statistics(*(float(value) for value in values))


def _flat(arrays):
  return np.concatenate([np.ravel(array) for array in arrays])


_HOSTS = (
  ("plain", False, 1, False),
  ("flat", False, 1, True),
  ("flat_two_shards", False, 2, True),
  ("compiled", True, 1, True),
  ("compiled_two_shards", True, 2, False),
)


class TrajectoryTest(parameterized.TestCase):
  @parameterized.named_parameters(
    (f"{case.name}_{host}", case, jit_compile, num_shards, flat)
    for case in trajectories.CASES
    for host, jit_compile, num_shards, flat in _HOSTS
    # Compiling takes seconds: with momentum only, and on two shards only the
    # rules that these share something for.
    if not jit_compile
    or (case.momentum and (num_shards == 1 or case.line is not None))
  )
  def test_follows_the_equations(self, case, jit_compile, num_shards, flat):
    expected = case.simulate()
    driver = _Driver(
      trajectories.split(trajectories.INITIAL),
      case.rule,
      lambda: keras.optimizers.SGD(
        trajectories.LEARNING_RATE, momentum=case.momentum
      ),
      num_shards,
      jit_compile,
      flat=flat,
    )
    version = 0
    for action, worker in case.events:
      if action == "pull":
        _, pulled_version, _ = driver.pull(worker)
        self.assertEqual(pulled_version, version)
        continue
      if case.line is not None:
        driver.server.ledger.loss_forecast.assign(case.line.forecast(version))
      weights, pulled_version, _ = driver.pulled(worker)
      weights = _flat(weights)
      k = trajectories.curvatures(version)
      step = expected[version]
      self.assertEqual(version - pulled_version, step.staleness)
      loss = trajectories.loss(weights, k)
      np.testing.assert_allclose(loss, step.loss, rtol=3e-5)
      after, version, _ = driver.push(
        worker,
        trajectories.split(trajectories.gradient(weights, k)),
        loss,
      )
      np.testing.assert_allclose(_flat(after), step.weights, rtol=0, atol=2e-5)
      np.testing.assert_array_equal(_flat(after), _flat(driver.weights()))
    self.assertEqual(version, len(expected))
    staleness = [step.staleness for step in expected]
    statistics = driver.statistics()
    self.assertEqual(statistics.pushes, len(expected))
    self.assertEqual(statistics.rejected, 0)
    self.assertEqual(statistics.staleness_sum, sum(staleness))
    self.assertEqual(statistics.staleness_max, max(staleness))


class LookAheadTest(parameterized.TestCase):
  @parameterized.product(
    momentum=(0.0, 0.9), host=[host[1:] for host in _HOSTS]
  )
  def test_follows_the_equations(self, momentum, host):
    jit_compile, num_shards, flat = host
    expected = trajectories.simulate_dana(momentum)
    driver = _Driver(
      trajectories.split(trajectories.INITIAL),
      compensation.LookAhead(momentum),
      lambda: keras.optimizers.SGD(trajectories.LEARNING_RATE),
      num_shards,
      jit_compile,
      flat=flat,
    )
    version = 0
    for action, worker in trajectories.INTERLEAVED:
      if action == "pull":
        driver.pull(worker)
        continue
      weights, _, _ = driver.pulled(worker)
      k = trajectories.curvatures(version)
      gradient = trajectories.gradient(_flat(weights), k)
      _, version, _ = driver.push(worker, trajectories.split(gradient), 1.0)
      np.testing.assert_allclose(
        _flat(driver.weights()), expected[version - 1], rtol=0, atol=2e-5
      )
    self.assertEqual(version, len(expected))


class TableTest(parameterized.TestCase):
  """The table of trajectories is worth comparing with."""

  @parameterized.parameters(
    (trajectories.INTERLEAVED, trajectories.INTERLEAVED_STALENESS),
    (trajectories.REPULLED, trajectories.REPULLED_STALENESS),
  )
  def test_pulls_and_pushes_interleave(self, events, staleness):
    steps = trajectories.simulate(trajectories.asgd, events=events)
    self.assertEqual(tuple(step.staleness for step in steps), staleness)

  def test_case_names_are_unique(self):
    names = [case.name for case in trajectories.CASES]
    self.assertLen(set(names), len(names))

  def test_tells_the_rules_apart(self):
    ends = {}
    for case in trajectories.CASES:
      # Fixed at 1, the ratio says that there is nothing to compensate.
      if case.events == trajectories.INTERLEAVED and "ratio_1" not in case.name:
        ends[case.name] = case.simulate()[-1].weights
    for one, other in itertools.combinations(ends, 2):
      difference = np.max(np.abs(ends[one] - ends[other]))
      self.assertGreater(difference, 1e-3, f"{one} and {other}")

  @parameterized.named_parameters(
    (
      "cap",
      "lc_asgd_ratio_0_momentum_0.9",
      trajectories.lc_asgd(0, cap=False, window=False),
    ),
    (
      "brake",
      "lc_asgd_rising_momentum_0.9",
      trajectories.lc_asgd(brake=0.0),
    ),
    ("ratio_0", "lc_asgd_falling_momentum_0.9", trajectories.lc_asgd(0)),
    ("ratio_1", "lc_asgd_falling_momentum_0.9", trajectories.lc_asgd(1)),
    (
      "bound",
      "lc_asgd_diverging",
      trajectories.lc_asgd(brake=0.55, window=False),
    ),
    (
      "window",
      "lc_asgd_falling_momentum_0.9",
      trajectories.lc_asgd(window=False),
    ),
  )
  def test_every_part_of_lc_asgd_matters(self, name, without):
    (case,) = (case for case in trajectories.CASES if case.name == name)
    with_it = case.simulate()[-1].weights
    without_it = case.simulate(without)[-1].weights
    self.assertGreater(np.max(np.abs(with_it - without_it)), 1e-3)


# Pull 0, pull 1, push 0, push 1, push 1, push 0, with loss = 1/2 w^2 and hence
# g = w_m, from w = 1 at learning rate 0.1. Worked out by hand:
#
#                  push 0        push 1        push 1        push 0
#   g = w_m          1             1       what 1 has left     0.9
#   tau              0             1             0             2
_BY_HAND = (
  (
    "asgd",
    compensation.Uncompensated(),
    trajectories.asgd,
    0.0,
    # 1 - 0.1; 0.9 - 0.1; 0.8 - 0.08; 0.72 - 0.09.
    (0.9, 0.8, 0.72, 0.63),
  ),
  (
    "asgd_momentum",
    compensation.Uncompensated(),
    trajectories.asgd,
    0.9,
    # v = -0.1; -0.09 - 0.1; 0.9 x -0.19 - 0.071; 0.9 x -0.242 - 0.09.
    (0.9, 0.71, 0.468, 0.1602),
  ),
  (
    "staleness_aware",
    compensation.StalenessAware(),
    trajectories.staleness_aware,
    0.0,
    # The last push is two updates late: 0.72 - 0.09 / 2.
    (0.9, 0.8, 0.72, 0.675),
  ),
  (
    "dc_asgd_c",
    _CONSTANT(0.5),
    trajectories.dc_asgd_c(0.5),
    0.0,
    # d = 0.9 - 1 = -0.1, u = 1 + 0.5 x 1 x -0.1 = 0.95, w = 0.9 - 0.095;
    # d = 0, w = 0.9 x 0.805;
    # d = 0.7245 - 0.9 = -0.1755, u = 0.9 + 0.5 x 0.81 x -0.1755 = 0.8289225.
    (0.9, 0.805, 0.7245, 0.64160775),
  ),
  (
    "dc_asgd_c_momentum",
    _CONSTANT(0.5),
    trajectories.dc_asgd_c(0.5),
    0.9,
    # v = -0.1; u = 0.95, v = -0.09 - 0.095 = -0.185;
    # g = 0.715, v = -0.1665 - 0.0715 = -0.238;
    # d = 0.477 - 0.9 = -0.423, u = 0.9 + 0.5 x 0.81 x -0.423 = 0.728685,
    # v = -0.2142 - 0.0728685 = -0.2870685.
    (0.9, 0.715, 0.477, 0.1899315),
  ),
  (
    "dc_asgd_a",
    _ADAPTIVE(2.0),
    trajectories.dc_asgd_a(2.0),
    0.0,
    # MS = 0.05; MS = 0.0475 + 0.05 = 0.0975, lambda = 2 / 0.312250 = 6.405126,
    # u = 1 - 0.6405123 = 0.3594877, w = 0.9 - 0.0359488 = 0.8640512;
    # d = 0, w = 0.9 x 0.8640512 = 0.7776461,
    # MS = 0.092625 + 0.05 x 0.7465845 = 0.1299542;
    # MS = 0.1234565 + 0.0405 = 0.1639565, lambda = 2 / 0.4049154 = 4.939303,
    # d = 0.7776461 - 0.9 = -0.1223539,
    # u = 0.9 - 4.939303 x 0.81 x 0.1223539 = 0.4104816.
    (0.9, 0.8640512, 0.7776461, 0.7365979),
  ),
  (
    "lc_asgd_reflects",
    _LOSS(ratio=0.0),
    trajectories.lc_asgd(0.0, window=False),
    0.0,
    # With one weight all of g lies along d: u = -g puts the weight back to 1.
    # At the last push d = 0.9 - 0.9 = 0, although two updates have passed.
    (0.9, 1.0, 0.9, 0.81),
  ),
  (
    "lc_asgd_removes",
    _LOSS(ratio=0.5),
    trajectories.lc_asgd(0.5, window=False),
    0.0,
    # u = 0; d = 0; u = 0.
    (0.9, 0.9, 0.81, 0.81),
  ),
  (
    "lc_asgd_window",
    _LOSS(ratio=0.0, window=True),
    trajectories.lc_asgd(0.0),
    0.0,
    # l = 1/2 w_m^2; a fifth of l + 1e-3 may be promised, at T out of 2. The
    # first averages are means of all pushes, and at most half as much is ever
    # promised: log T grows by log(2) / 64 = 0.01083042 with every push.
    # u = T / 2 = 0.50544463.
    # d = -0.05054446 promises as much, u = -T / 2 = -0.51094857.
    # u = w_m T / 2 = 1.00055040 x 0.51651244 = 0.51679673.
    # d = 0.94887072 - 0.94945554, u = -w_m T / 2 = -0.49574576.
    (0.94945554, 1.00055040, 0.94887072, 0.99844530),
  ),
)

_HAND_EVENTS = (
  *(trajectories.PULL_0, trajectories.PULL_1),
  *(trajectories.PUSH_0, trajectories.PUSH_1),
  *(trajectories.PUSH_1, trajectories.PUSH_0),
)


class ByHandTest(parameterized.TestCase):
  @parameterized.named_parameters(*_BY_HAND)
  def test_reference(self, rule, update, momentum, expected):
    del rule
    steps = trajectories.simulate(
      update,
      momentum,
      events=_HAND_EVENTS,
      initial=np.ones(1),
      curvatures=lambda push: np.ones(1),
    )
    weights = [step.weights[0] for step in steps]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)

  @parameterized.named_parameters(*_BY_HAND)
  def test_server(self, rule, update, momentum, expected):
    del update
    driver = _Driver(
      [[1.0]], rule, lambda: keras.optimizers.SGD(0.1, momentum=momentum)
    )
    weights = []
    for action, worker in _HAND_EVENTS:
      if action == "pull":
        driver.pull(worker)
      else:
        (gradient,), _, _ = driver.pulled(worker)
        loss = 0.5 * float(gradient[0]) ** 2
        (weight,), _, _ = driver.push(worker, [gradient], loss)
        weights.append(weight[0])
    np.testing.assert_allclose(weights, expected, rtol=1e-6)

  @parameterized.parameters(
    # Worker 1's push: g = (1, 2), d = (-0.1, -0.2), MS = 0.0975 (1, 4), hence
    # D ~ (1, 4), D d ~ (-0.1, -0.8), g.d = -0.5, d'Dd ~ 0.17.
    # Half of 2 x 0.5 / 0.17 = 100/17 times D d: u = (12/17, -6/17), shorter
    # than g.
    (0.5, True, (0.9 - 12 / 170, 0.8 + 6 / 170)),
    # All of it: u = (7/17, -46/17).
    (0.0, False, (0.9 - 7 / 170, 0.8 + 46 / 170)),
    # The cap shortens it by sqrt(5 / (2165 / 289)) = 0.8169666.
    (0.0, True, (0.8663601983, 1.0210615540)),
  )
  def test_two_weights(self, ratio, cap, expected):
    driver = _Driver([[1.0, 1.0]], _LOSS(ratio=ratio, cap=cap))
    driver.pull(0)
    driver.pull(1)
    driver.push(0, [(1.0, 2.0)])
    (weights,), _, _ = driver.push(1, [(1.0, 2.0)])
    np.testing.assert_allclose(weights, expected, rtol=2e-6)


class CountingTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_counts_versions_and_staleness(self, jit_compile):
    driver = _Driver(
      [[1.0]],
      compensation.Uncompensated(),
      num_workers=3,
      jit_compile=jit_compile,
    )
    for worker in range(3):
      self.assertEqual(driver.pull(worker)[1], 0)
    versions = [driver.push(worker, [[0.0]])[1] for worker in (0, 0, 1, 0, 2)]
    self.assertEqual(versions, [1, 2, 3, 4, 5])
    # tau = 0, 0, 2, 1, 4.
    statistics = driver.statistics()
    self.assertEqual(statistics.pushes, 5)
    self.assertEqual(statistics.staleness_sum, 7)
    self.assertEqual(statistics.staleness_max, 4)
    self.assertEqual(statistics.loss_error_count, 0)
    self.assertEqual(statistics.step_error_count, 0)
    np.testing.assert_array_equal(driver.server.ledger.pulled, [4, 3, 5])
    driver.server.ledger.reset_statistics()
    self.assertEqual(driver.statistics(), server.Statistics(*[0.0] * 10))
    # A pull without a push: worker 1 begins anew.
    driver.pull(1)
    driver.push(1, [[0.0]])
    self.assertEqual(driver.statistics().staleness_sum, 0)
    self.assertEqual(driver.statistics().pushes, 1)

  @parameterized.parameters(False, True)
  def test_staleness_is_in_updates_where_gradients_accumulate(
    self, jit_compile
  ):
    driver = _Driver(
      [[1.0]],
      compensation.StalenessAware(),
      lambda: keras.optimizers.SGD(1.0, gradient_accumulation_steps=2),
      num_workers=2,
      jit_compile=jit_compile,
    )
    for worker in range(2):
      driver.pull(worker)
    for worker in (0, 0, 0, 0, 1):
      driver.push(worker, [[0.0]])
    # Of its own pushes, the weights never moved while worker 0 computed.
    statistics = driver.statistics()
    self.assertEqual(statistics.staleness_sum, 2)
    self.assertEqual(statistics.staleness_max, 2)

  @parameterized.parameters(1, 2)
  def test_an_interrupted_round_leaves_nothing(self, num_shards):
    driver = _Driver(
      [[1.0], [1.0]],
      compensation.Synchronous(),
      lambda: keras.optimizers.SGD(1.0, gradient_accumulation_steps=3),
      num_shards=num_shards,
      num_workers=3,
    )
    # As if the journal had gone round.
    rows = driver.server.ledger.rows
    rows.assign(np.ones(rows.shape))
    for round_ends in (True, False):
      for worker in range(3):
        driver.pull(worker)
      for worker in range(3 if round_ends else 2):
        driver.push(worker, [[100.0], [100.0]])
      before = np.ravel(driver.weights())
      driver.server.forget_partial_round()
      np.testing.assert_array_equal(np.ravel(driver.weights()), before)
    for worker in range(3):
      driver.pull(worker)
    for worker in range(3):
      weights, version, _ = driver.push(worker, [[worker], [3 * worker]])
    np.testing.assert_allclose(np.ravel(weights) - before, [-1.0, -3.0])
    self.assertEqual(version, 9)
    self.assertEqual(driver.statistics().staleness_max, 0)
    # The report of the push that never came.
    empty = np.flatnonzero(~rows.numpy().any(axis=1))
    np.testing.assert_array_equal(empty, [5])

  @parameterized.parameters(-1, 1)
  def test_a_push_that_only_one_shard_has_leaves_nothing(self, surplus):
    driver = _Driver(
      [[1.0], [1.0]],
      compensation.Synchronous(),
      lambda: keras.optimizers.SGD(1.0, gradient_accumulation_steps=2),
      num_shards=2,
    )

    def play_round(gradients):
      for worker in range(2):
        driver.pull(worker)
      for worker, gradient in enumerate(gradients):
        driver.push(worker, [[gradient], [gradient]])
      driver.server.forget_partial_round()
      return driver.weights()

    before = play_round([1.0, 3.0])
    # A worker has died between its two messages, and its step was done again,
    # or not, by what the ledger's shard has.
    optimizer = driver.server.shards[1].optimizer
    optimizer._iterations.assign_add(surplus)
    optimizer._accumulated_gradients[0].assign([30.0])
    driver.server.forget_partial_round()
    for gradient in (100.0, 200.0):
      after = play_round([gradient, 3.0 * gradient])
      np.testing.assert_array_equal(
        np.subtract(after, before), 2 * [[-2.0 * gradient]]
      )
      before = after
    self.assertEqual([part.pushes for part in driver.server.shards], [6, 6])

  def test_measures_forecasts_made_before_the_report(self):
    driver = _Driver([[1.0]], _LOSS())
    driver.pull(0)
    driver.pull(1)
    driver.push(0, [[0.0]], 1.0)
    ledger = driver.server.ledger
    # At version 1: log loss 0 at version 0, then falling by log 2 a version.
    ledger.loss_forecast.assign([0.0, -np.log(2.0), 0.0, 1.0])
    ledger.step_forecast.assign([-1.0, 2.5])
    # Worker 1 had pulled version 0, one update ago: predicted 1, reported 3.
    driver.push(1, [[0.0]], 3.0)
    statistics = driver.statistics()
    self.assertEqual(statistics.loss_error_count, 1)
    self.assertAlmostEqual(statistics.loss_error_sum, 2.0, places=6)
    self.assertEqual(statistics.step_error_count, 1)
    self.assertEqual(statistics.step_error_sum, 1.5)
    # Before it, the only loss was 1, and worker 1 had no push.
    self.assertAlmostEqual(statistics.loss_persistence_sum, 1.999, places=5)
    self.assertEqual(statistics.step_persistence_sum, 1.0)
    # Worker 0 pulled version 1 and pushes at 2; the line, drawn at 1, moves
    # along: one update ago it says 1 again. No step forecast for worker 0.
    driver.push(0, [[0.0]], 0.25)
    statistics = driver.statistics()
    self.assertEqual(statistics.loss_error_count, 2)
    self.assertAlmostEqual(statistics.loss_error_sum, 2.75, places=6)
    # The typical loss of 1 and 3 is their geometric mean.
    typical = np.sqrt(1.001 * 3.001)
    self.assertAlmostEqual(
      statistics.loss_persistence_sum, 1.999 + typical - 0.25, places=5
    )
    self.assertEqual(statistics.step_error_count, 1)
    # A forecast of none: worker 1 was one update late, and is now two.
    ledger.step_forecast.assign([-1.0, 0.0])
    driver.push(0, [[0.0]], 1.0)
    driver.push(1, [[0.0]], 1.0)
    statistics = driver.statistics()
    self.assertEqual(statistics.step_error_count, 2)
    self.assertEqual(statistics.step_error_sum, 1.5 + 2.0)
    self.assertEqual(statistics.step_persistence_sum, 1.0 + 1.0)

  @parameterized.parameters(
    ("bfloat16", False, 1, False),
    ("float16", True, 1, True),
    ("bfloat16", True, 2, True),
  )
  def test_takes_displacements_from_what_was_pulled(
    self, pull_dtype, jit_compile, num_shards, flat
  ):
    exact = np.array([1.0, 1 + 2**-12, -3 - 2**-10], "float32")
    driver = _Driver(
      [exact[:1], exact[1:]],
      compensation.DelayCompensatedConstant(0.5),
      num_shards=num_shards,
      jit_compile=jit_compile,
      flat=flat,
      pull_dtype=pull_dtype,
    )
    pulled, _, _ = driver.pull(0)
    rounded = exact.astype(tf.as_dtype(pull_dtype).as_numpy_dtype)
    rounded = rounded.astype("float32")
    self.assertTrue(np.any(rounded != exact))
    np.testing.assert_array_equal(_flat(pulled), rounded)
    g = np.array([1.0, 2.0, -4.0], "float32")
    driver.push(0, [g[:1], g[1:]])
    # u = g + lambda g*g*d with d = w - w_m, at full precision.
    expected = exact - 0.1 * (g + 0.5 * g * g * (exact - rounded))
    actual = np.concatenate(
      [part.current().numpy() for part in driver.server.shards]
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-6)

  def test_keeps_every_report(self):
    driver = _Driver([[1.0]], compensation.Uncompensated())
    driver.pull(0)
    driver.pull(1)
    # Seconds since 1970, to the microsecond.
    moment = 1795670000.123456
    driver.push(
      0,
      [[0.0]],
      0.5,
      compute_seconds=0.25,
      communication_seconds=0.125,
      pulled_at=tf.constant(moment, tf.float64),
    )
    driver.push(1, [[0.0]], 1.5, compute_seconds=2.0)
    rows = driver.server.ledger.rows.numpy()
    # Version pulled, loss, worker, staleness, compute, communication, moment.
    np.testing.assert_array_equal(rows[0], [0, 0.5, 0, 0, 0.25, 0.125, moment])
    np.testing.assert_array_equal(rows[1], [0, 1.5, 1, 1, 2.0, 0.0, 0.0])
    np.testing.assert_array_equal(rows[2:], 0.0)

  @parameterized.named_parameters(*_HOSTS[-2:])
  def test_compiles_once(self, jit_compile, num_shards, flat):
    workers = 8
    driver = _Driver(
      [[1.0, 2.0], [3.0]],
      _LOSS(),
      num_shards=num_shards,
      jit_compile=jit_compile,
      num_workers=workers,
      flat=flat,
    )
    seconds = []
    for worker in range(workers):
      driver.pull(worker)
      # A concrete function is traced; the first call compiles it.
      driver._push.get_concrete_function(
        tf.TensorSpec([], tf.int64),
        driver.server.message_specs(),
        driver.server.reply_specs(),
      )
      started = time.perf_counter()
      driver.push(worker, [[0.5, 0.25], [0.125]], 1.0 + worker)
      seconds.append(time.perf_counter() - started)
    self.assertEqual(driver._pull.experimental_get_tracing_count(), 1)
    self.assertEqual(driver._push.experimental_get_tracing_count(), 1)
    # Compiling takes a hundred times as long as running.
    self.assertLess(np.median(seconds[1:]), seconds[0] / 5)

  @parameterized.named_parameters(*_HOSTS)
  def test_variables_are_touched_in_compiled_functions_only(
    self, jit_compile, num_shards, flat
  ):
    """Such a function holds the locks of all of its variables."""
    hosted = _Driver(
      [[1.0, 2.0], [3.0]],
      _LOSS(),
      lambda: keras.optimizers.Adam(0.1),
      num_shards,
      jit_compile,
      flat=flat,
    ).server
    push = tf.function(hosted.push).get_concrete_function(
      tf.TensorSpec([], tf.int64), hosted.message_specs(), hosted.reply_specs()
    )
    operations = push.graph.get_operations()
    compiled = [
      operation
      for operation in operations
      if operation.type == "StatefulPartitionedCall"
      and operation.get_attr("_XlaMustCompile")
    ]
    outside = [
      operation.type
      for operation in operations
      if "Variable" in operation.type or operation.type.startswith("Resource")
    ]
    if jit_compile:
      # One shard: everything at once. Two: each measures, one books, each
      # applies.
      self.assertLen(compiled, 1 if num_shards == 1 else 5)
      self.assertEmpty(outside)
    else:
      self.assertEmpty(compiled)
      self.assertNotEmpty(outside)

  @parameterized.named_parameters(
    ("asgd", compensation.Uncompensated),
    ("dc_asgd", _ADAPTIVE),
    ("lc_asgd", compensation.LossCompensated),
  )
  def test_what_is_compiled_copies_no_vector(self, rule):
    """All state is updated in place, whatever else reads it."""
    size = 10_007
    driver = _Driver(
      [np.ones(size, np.float32)],
      rule(),
      lambda: keras.optimizers.SGD(0.1, momentum=0.9),
      num_shards=1,
      jit_compile=True,
      flat=True,
    )
    hosted = driver.server
    arguments = (
      tf.constant(0, tf.int64),
      hosted.messages([[tf.ones([size])]], tf.constant(1.0)),
      hosted.pull(tf.constant(0, tf.int64)),
    )
    push = tf.function(
      lambda *pushed: hosted._push(*pushed, shares=()), jit_compile=True
    )
    compiled = push.experimental_get_compiler_ir(*arguments)("optimized_hlo")
    self.assertIn(f"f32[{size}]", compiled)
    self.assertNotRegex(compiled, rf"f32\[{size}\]\S* copy\(")


_OPTIMIZERS = (
  (
    "sgd_nesterov",
    lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
  ),
  ("adam", lambda: keras.optimizers.Adam(0.01)),
  (
    "adamw_clipped",
    lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.5),
  ),
  (
    "schedule",
    lambda: keras.optimizers.SGD(
      keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    ),
  ),
)


class RateFactorTest(parameterized.TestCase):
  @parameterized.product(
    learning_rate=(
      0.5,
      keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5),
    ),
    jit_compile=(False, True),
  )
  def test_adam_takes_smaller_steps(self, learning_rate, jit_compile):
    """Which a factor of the gradient would leave as they are."""
    driver = _Driver(
      [[1.0]],
      compensation.StalenessAware(),
      lambda: keras.optimizers.Adam(learning_rate, epsilon=0.0),
      num_workers=2,
      jit_compile=jit_compile,
    )
    for worker in range(2):
      driver.pull(worker)
    weights = [1.0]
    for worker in (0, 0, 0, 0, 1):
      (weight,), _, _ = driver.push(worker, [[1.0]])
      weights.append(float(weight[0]))
    factors = np.array([1.0, 1.0, 1.0, 1.0, 0.25])
    if callable(learning_rate):
      factors *= 0.5 ** np.arange(5)
    # All gradients are 1, and so is their average over their root mean square.
    np.testing.assert_allclose(-np.diff(weights), 0.5 * factors, rtol=1e-4)

  def test_momentum_counts_updates_where_gradients_accumulate(self):
    driver = _Driver(
      [[1.0]],
      _LOSS(ratio=1.0, brake=0.0),
      lambda: keras.optimizers.SGD(
        0.1, momentum=0.9, gradient_accumulation_steps=2
      ),
      num_workers=4,
    )
    for worker in range(4):
      driver.pull(worker)
    weights = [float(driver.push(m, [[1.0]])[0][0][0]) for m in range(4)]
    # Two updates are on their way, which leave 0.8, at steps twice as long:
    # -0.2, and -0.2 + 0.8 x -0.2 after it.
    np.testing.assert_allclose(weights, [1.0, 0.8, 0.8, 0.44], rtol=1e-6)

  @parameterized.parameters(False, True)
  def test_a_velocity_in_the_model_goes_as_far(self, flat):
    driver = _Driver(
      [[1.0]],
      _LOSS(ratio=1.0, brake=0.0),
      lambda: keras.optimizers.SGD(0.1, momentum=0.9),
      flat=flat,
    )
    driver.pull(0)
    driver.push(0, [[1.0]])
    (shard,) = driver.server.shards
    (velocity,) = shard.optimizer.momentums
    np.testing.assert_allclose(velocity, [-0.2], rtol=1e-6)
    slots = shard.slots({id(v): v.value for v in shard.variables})
    (shown,) = (
      value for (_, name), value in slots.items() if name == "momentum"
    )
    # It goes on for -0.16 with the next update, of 0.8 here and of 0.9 there.
    np.testing.assert_allclose(shown * 0.9, [-0.16], rtol=1e-5)
    velocity.assign([0.0])
    shard.assign_slots(slots)
    np.testing.assert_allclose(velocity, [-0.2], rtol=1e-6)

  @parameterized.product(late_comes_first=(False, True), adam=(False, True))
  def test_each_push_of_an_update_has_its_own(self, late_comes_first, adam):
    inner = keras.optimizers.Adam if adam else keras.optimizers.SGD
    driver = _Driver(
      [[1.0, 1.0]],
      compensation.StalenessAware(),
      lambda: inner(1.0, gradient_accumulation_steps=2),
      num_workers=2,
    )
    for worker in range(2):
      driver.pull(worker)
    # Zeros, which move nothing, until worker 1 is five updates late.
    for _ in range(10):
      driver.push(0, [[0.0, 0.0]])
    before = driver.weights()[0]
    # What is late counts a fifth.
    pushes = [(1, [[5.0, 0.0]]), (0, [[0.0, 1.0]])]
    for worker, gradient in pushes if late_comes_first else pushes[::-1]:
      driver.push(worker, gradient)
    step = before - driver.weights()[0]
    self.assertGreater(step[0], 0.0)
    np.testing.assert_allclose(step[0], step[1], rtol=1e-5)

  def test_the_learning_rate_itself_is_left_alone(self):
    driver = _Driver([[1.0]], compensation.LossCompensated(), num_workers=4)
    optimizer = driver.server.shards[0].optimizer
    before = optimizer._learning_rate
    for worker in (0, 1):
      driver.pull(worker)
      (weight,), _, _ = driver.push(worker, [[1.0]])
    self.assertIs(optimizer._learning_rate, before)
    self.assertAlmostEqual(float(optimizer.learning_rate), 0.1)
    # A window of 1 of 4 workers, or a little more after the first push.
    self.assertAlmostEqual(float(weight[0]), 1.0 - 2 * 0.025, delta=2e-3)


class LongestStepTest(parameterized.TestCase):
  @parameterized.named_parameters(*_HOSTS)
  def test_steps_in_place_of_momentum_do_not_diverge(
    self, jit_compile, num_shards, flat
  ):
    """The only worker of ten that pushes, at 3 / h: with momentum, it may."""
    driver = _Driver(
      [[1.0, -2.0], [0.5]],
      _LOSS(),
      lambda: keras.optimizers.SGD(0.3, momentum=0.9),
      num_shards,
      jit_compile,
      num_workers=10,
      flat=flat,
    )
    weights, *_ = driver.pull(0)
    losses = []
    for _ in range(30):
      losses.append(0.5 * float(np.square(_flat(weights)).sum()))
      # Of the quadratic, the gradient is the weights.
      weights, *_ = driver.push(0, weights, losses[-1])
    self.assertLess(max(losses), losses[0] * 1.1)


class StepSizeTest(absltest.TestCase):
  def test_is_that_of_the_latest_update(self):
    """Not of a push that only adds to an accumulated gradient."""
    driver = _Driver(
      [[1.0, 1.0]],
      compensation.GapAware(),
      lambda: keras.optimizers.SGD(1.0, gradient_accumulation_steps=2),
    )
    driver.pull(0)
    squares = []
    for gradient in (3.0, 1.0, 5.0):
      driver.push(0, [[gradient, 0.0]])
      squares.append(float(driver.server.shards[0].step_square.value))
    np.testing.assert_allclose(squares, [0.0, 4.0, 4.0], rtol=1e-6)


class InnerOptimizerTest(parameterized.TestCase):
  """With one worker nothing is late, and the inner optimizer is all."""

  def _gradients(self):
    rng = np.random.default_rng(3)
    return [
      [
        rng.normal(size=3).astype("float32"),
        rng.normal(size=(2, 2)).astype("float32"),
      ]
      for _ in range(5)
    ]

  def _expected(self, optimizer):
    variables = [
      keras.Variable(np.ones(3, "float32"), name="v0"),
      keras.Variable(np.full((2, 2), -1.0, "float32"), name="v1"),
    ]
    for gradients in self._gradients():
      optimizer.apply([tf.constant(g) for g in gradients], variables)
    return [variable.numpy() for variable in variables]

  def _actual(self, optimizer, rule, jit_compile):
    values = [np.ones(3), np.full((2, 2), -1.0)]
    driver = _Driver(
      values, rule, optimizer, jit_compile=jit_compile, num_workers=1
    )
    driver.pull(0)
    for gradients in self._gradients():
      weights, _, _ = driver.push(0, gradients)
    return weights

  @parameterized.named_parameters(
    (f"{name}_{rule_name}", optimizer, rule)
    for name, optimizer in _OPTIMIZERS
    for rule_name, rule in (
      ("asgd", compensation.Uncompensated()),
      ("staleness_aware", compensation.StalenessAware()),
      ("dc_asgd_c", _CONSTANT()),
      ("dc_asgd_a", _ADAPTIVE()),
      ("lc_asgd", _LOSS()),
      ("lc_asgd_ratio_0", _LOSS(ratio=0.0)),
    )
  )
  def test_equals_keras_to_the_last_bit(self, optimizer, rule):
    actual = self._actual(optimizer, rule, jit_compile=False)
    for one, other in zip(actual, self._expected(optimizer()), strict=True):
      np.testing.assert_array_equal(one, other)

  @parameterized.named_parameters(*_OPTIMIZERS[2:])
  def test_equals_keras_when_compiled(self, optimizer):
    actual = self._actual(optimizer, _LOSS(), jit_compile=True)
    for one, other in zip(actual, self._expected(optimizer()), strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

  def test_leaves_the_model_alone_and_heeds_its_constraints(self):
    variable = keras.Variable(np.ones(2, "float32"), name="v")
    variable.constraint = keras.constraints.NonNeg()
    hosted = server.Server(
      [[variable]],
      [keras.optimizers.SGD(1.0)],
      compensation.Uncompensated(),
      num_workers=1,
    )
    worker = tf.constant(0, tf.int64)
    replies = hosted.pull(worker)
    messages = hosted.messages(
      [[tf.constant([3.0, 0.5])]], loss=tf.constant(1.0)
    )
    replies = tf.function(hosted.push)(worker, messages, replies)
    ((weight,),), _, _ = hosted.open_replies(replies)
    np.testing.assert_array_equal(weight, [0.0, 0.5])
    np.testing.assert_array_equal(variable, [1.0, 1.0])

  @parameterized.parameters(
    compensation.Uncompensated(), compensation.StalenessAware()
  )
  def test_rules_without_displacement_need_no_snapshot(self, rule):
    hosted = server.Server(
      [[keras.Variable(np.ones(2, "float32"), name="v")]],
      [keras.optimizers.SGD(0.5)],
      rule,
      num_workers=1,
    )
    worker = tf.constant(0, tf.int64)
    hosted.pull(worker)
    messages = hosted.messages([[tf.constant([1.0, 2.0])]], tf.constant(1.0))
    push = tf.function(lambda: hosted.push(worker, messages, [None]))
    ((weight,),), _, _ = hosted.open_replies(push())
    np.testing.assert_array_equal(weight, [0.5, 0.0])

  @parameterized.product(
    rule=(compensation.StalenessAware(), _ADAPTIVE(), _LOSS(ratio=0.0)),
    num_shards=(1, 2),
  )
  def test_weights_of_several_dtypes(self, rule, num_shards):
    variables = [
      keras.Variable(np.ones(2), dtype=dtype, name=dtype)
      for dtype in ("float64", "bfloat16", "float32")
    ]
    placement = (
      [variables] if num_shards == 1 else [variables[:1], variables[1:]]
    )
    hosted = server.Server(
      placement,
      [keras.optimizers.SGD(0.5) for _ in placement],
      rule,
      num_workers=2,
      devices=["CPU:0"] * num_shards,
      jit_compile=False,
    )
    workers = [tf.constant(m, tf.int64) for m in range(2)]
    replies = [hosted.pull(worker) for worker in workers]
    messages = hosted.messages(
      [[tf.fill([2], tf.cast(0.5, v.dtype)) for v in p] for p in placement],
      tf.constant(1.0),
    )
    ends = []
    for worker in (0, 1):
      parts, _, _ = hosted.open_replies(
        hosted.push(workers[worker], messages, replies[worker])
      )
      weights = [weight for part in parts for weight in part]
      self.assertEqual(
        [weight.dtype for weight in weights],
        [tf.float64, tf.bfloat16, tf.float32],
      )
      ends.append([tf.cast(weight, tf.float32) for weight in weights])
    # All are pushed and moved alike, up to the 8 bits of a bfloat16.
    np.testing.assert_allclose(ends[0], np.full([3, 2], 0.75))
    np.testing.assert_allclose(ends[1], np.full([3, 2], ends[1][2]), rtol=0.01)


class RejectionTest(parameterized.TestCase):
  """A push that is not finite counts as zero, wherever it is not."""

  @parameterized.named_parameters(
    (f"{name}_{host}", value, jit_compile, num_shards, flat)
    for name, value in (("nan", np.nan), ("inf", np.inf), ("huge", 1e30))
    for host, jit_compile, num_shards, flat in _HOSTS
    if not jit_compile or name == "nan"
  )
  def test_counts_as_a_gradient_of_zero(
    self, value, jit_compile, num_shards, flat
  ):
    mean = keras.Variable(np.float32(2.0), trainable=False, name="mean")
    driver = _Driver(
      [[1.0], [2.0]],
      _LOSS(),
      lambda: keras.optimizers.SGD(0.1, momentum=0.9),
      num_shards,
      jit_compile,
      buffers=[mean],
      buffer_kinds=[(normalization.Kind.MOVING_STATISTIC, 0.5)],
      flat=flat,
    )
    driver.pull(0)
    driver.pull(1)
    # At a loss that leaves room for the whole step.
    driver.push(0, [[1.0], [2.0]], 2.0, contributions=[0.5])
    moments = driver.second_moments()
    weights, version, (mean,) = driver.push(
      1, [[3.0], [value]], np.nan, contributions=[np.nan]
    )
    self.assertEqual(version, 2)
    # u = 0: only the momentum moves, 0.8 of what it did before, which was -0.2
    # of g. That is so since two workers leave 0.8 of 0.9.
    np.testing.assert_allclose(_flat(weights), [0.64, 1.28], rtol=1e-6)
    self.assertEqual(mean, 1.5)
    np.testing.assert_array_equal(driver.second_moments(), moments)
    statistics = driver.statistics()
    self.assertEqual(statistics.rejected, 1)
    self.assertEqual(statistics.pushes, 2)
    # The run goes on.
    for worker in (0, 1, 0):
      weights, _, _ = driver.push(
        worker, [[1.0], [2.0]], 1.0, contributions=[0.5]
      )
      self.assertTrue(np.all(np.isfinite(_flat(weights))))
    self.assertEqual(driver.statistics().rejected, 1)
    self.assertTrue(np.all(np.isfinite(driver.server.ledger.log_loss_average)))

  def test_a_loss_alone_does_not_reject(self):
    driver = _Driver([[1.0]], _LOSS())
    driver.pull(0)
    (weight,), _, _ = driver.push(0, [[1.0]], np.nan)
    np.testing.assert_allclose(weight, [0.9], rtol=1e-6)
    self.assertEqual(driver.statistics().rejected, 0)


class BuffersTest(parameterized.TestCase):
  @parameterized.parameters((False, 1), (True, 1), (True, 2))
  def test_stale_contributions_merge_into_the_current_value(
    self, jit_compile, num_shards
  ):
    kinds = [
      (normalization.Kind.MOVING_STATISTIC, 0.9),
      (normalization.Kind.COUNTER, 0.0),
      (normalization.Kind.LATEST, 0.0),
    ]
    driver = _Driver(
      [[1.0], [2.0]],
      compensation.Uncompensated(),
      num_shards=num_shards,
      jit_compile=jit_compile,
      buffers=[
        keras.Variable(np.float32(0.0), trainable=False),
        keras.Variable(
          np.array([7, 2**32 - 2], "uint32"), dtype="uint32", trainable=False
        ),
        keras.Variable(np.float32(5.0), trainable=False),
      ],
      buffer_kinds=kinds,
    )
    driver.pull(0)
    driver.pull(1)

    def step(worker, batch_mean, draws, latest):
      _, _, (mean, seed, _) = driver.pulled(worker)
      returned = (
        tf.constant(0.9 * mean + 0.1 * batch_mean, tf.float32),
        tf.constant(seed + np.array([0, draws], "uint32")),
        tf.constant(latest),
      )
      contributions = [
        normalization.contribution(kind, momentum, tf.constant(old), new)
        for (kind, momentum), old, new in zip(
          kinds, driver.pulled(worker)[2], returned, strict=True
        )
      ]
      _, _, (mean, seed, latest) = driver.push(
        worker, [[0.0], [0.0]], contributions=contributions
      )
      return float(mean), int(seed[1]), float(latest)

    # Batch means are 1 for worker 0 and 2 for worker 1; by hand, the mean is
    # 0.1; 0.9 x 0.1 + 0.2; 0.9 x 0.29 + 0.2; 0.9 x 0.461 + 0.1, as if nobody
    # had been late. The count of draws begins at 2^32 - 2 and wraps around.
    steps = [
      step(0, 1.0, 3, 10.0),
      step(1, 2.0, 5, 11.0),
      step(1, 2.0, 5, 12.0),
      step(0, 1.0, 3, 13.0),
    ]
    means, draws, latest = zip(*steps, strict=True)
    np.testing.assert_allclose(means, [0.1, 0.29, 0.461, 0.5149], rtol=1e-5)
    self.assertEqual(draws, (1, 6, 11, 14))
    self.assertEqual(latest, (10.0, 11.0, 12.0, 13.0))


class PredictionTest(parameterized.TestCase):
  def _after(self, horizon, expected_staleness):
    """The weight after worker 1's push, one update late."""
    driver = _Driver([[1.0]], _LOSS(horizon=horizon, brake=0.0))
    driver.pull(0)
    driver.pull(1)
    driver.push(0, [[1.0]], 1.0)
    # Delta = exp(0.04 - 0.04 horizon) - exp(0.04); g.d = -0.1.
    driver.server.ledger.loss_forecast.assign([0.04, -0.04, 0.0, 1.0])
    driver.server.ledger.step_forecast.assign([-1.0, expected_staleness])
    (weight,), _, _ = driver.push(1, [[1.0]], 1.0)
    return float(weight[0])

  @parameterized.parameters(
    ("observed", 2.0, 1.0),
    ("predicted", 2.0, 2.0),
    ("predicted", 0.0, 0.0),
    # Nothing is known of the worker yet.
    ("predicted", -1.0, 1.0),
  )
  def test_horizon(self, horizon, expected, ahead):
    delta = np.exp(0.04 - 0.04 * ahead) - np.exp(0.04)
    ratio = np.clip(delta / -0.1, 0.0, 1.0)
    # Of a loss of 1, a tenth was promised.
    share = 0.1 / 1.002
    ratio = 1 - (1 - ratio) * share / (share + 0.05)
    # With one weight u = g - 2 (1 - r) g = (2 r - 1) g.
    np.testing.assert_allclose(
      self._after(horizon, expected), 0.9 - 0.1 * (2 * ratio - 1), rtol=1e-5
    )

  def test_learn_publishes_what_the_predictors_say(self):
    holt = predictors.HoltLossPredictor()
    steps = predictors.StepPredictor(units=4, window=3)
    driver = _Driver(
      [[1.0]],
      _LOSS(),
      num_workers=3,
      loss_predictor=holt,
      step_predictor=steps,
    )
    learn = tf.function(driver.server.learn)
    ledger = driver.server.ledger
    driver.pull(0)
    driver.pull(1)
    learned = learn(tf.constant(0, tf.int64))
    self.assertEqual(learned, 0)
    self.assertEqual(ledger.loss_forecast.numpy()[3], -1)
    np.testing.assert_array_equal(ledger.step_forecast, [-1, -1, -1])
    for i in range(14):
      driver.push(i % 2, [[0.0]], 2.0)
    learned = learn(learned)
    self.assertEqual(learned, 14)
    rows, now = ledger.rows.value, tf.constant(14, tf.int64)
    np.testing.assert_array_equal(
      ledger.loss_forecast, tf.stack(holt.forecast(rows, now))
    )
    # All losses were 2.
    np.testing.assert_allclose(
      ledger.loss_forecast, [np.log(2.001), 0.0, 12.0, 14.0], atol=1e-6
    )
    np.testing.assert_allclose(
      ledger.step_forecast,
      steps.forecast(rows, now, tf.range(3, dtype=tf.int64)),
      rtol=1e-5,
    )
    # Workers 0 and 1 take turns; worker 2 was never heard of.
    np.testing.assert_allclose(ledger.step_forecast[:2], [1.0, 1.0], atol=0.5)
    self.assertEqual(ledger.step_forecast[2], -1.0)

  def test_learn_reads_the_reports_after_their_number(self):
    """A push in between is one too many, and not one that is missing."""
    holt = predictors.HoltLossPredictor()
    server = _Driver([[1.0]], _LOSS(), loss_predictor=holt).server
    learn = tf.function(server.learn, autograph=False)
    graph = learn.get_concrete_function(tf.TensorSpec([], tf.int64)).graph

    def read(variable):
      handle = graph.capture(variable.value.handle)
      (operation,) = [
        each for each in handle.consumers() if each.type == "ReadVariableOp"
      ]
      return operation

    rows, now = read(server.ledger.rows), read(server.ledger.version)
    before = set(rows.control_inputs)
    for operation in list(before):
      before |= {tensor.op for tensor in operation.inputs}
    self.assertIn(now, before)

  @parameterized.parameters(
    predictors.HoltLossPredictor, predictors.LSTMLossPredictor
  )
  def test_a_push_brings_the_forecast_up_to_date(self, predictor):
    forecasts = []
    for follows in (False, True):
      driver = _Driver(
        [[1.0]],
        _LOSS(),
        num_workers=2,
        loss_predictor=predictor(),
        follows=follows,
      )
      ledger = driver.server.ledger
      for worker in range(2):
        driver.pull(worker)
      for i in range(20):
        driver.push(i % 2, [[0.0]], 2.0 - i / 20)
        # With the push, or at the next lesson.
        drawn = i + 1 if follows and i >= 11 else -1
        self.assertEqual(ledger.loss_forecast.numpy()[3], drawn)
      if follows:
        forecasts.append(ledger.loss_forecast.numpy())
      else:
        # The same trend, report by report, that has not learned anything yet.
        rows, now = ledger.rows.value, tf.constant(20, tf.int64)
        built = driver.server.loss_predictor
        built.follow(rows, tf.constant(0, tf.int64), now)
        forecasts.append(np.stack(built.forecast(rows, now)))
    np.testing.assert_allclose(*forecasts)
    self.assertLess(forecasts[0][1], 0.0)

  def test_variables_are_all_of_the_state(self):
    driver = _Driver(
      [[1.0, 2.0], [3.0]],
      _LOSS(),
      lambda: keras.optimizers.SGD(0.1, momentum=0.9),
      num_shards=2,
      buffers=[keras.Variable(np.float32(0.0), trainable=False)],
      buffer_kinds=[(normalization.Kind.MOVING_STATISTIC, 0.9)],
      loss_predictor=predictors.HoltLossPredictor(),
    )
    self.assertCountEqual(
      driver.server.variables,
      ["shard_0", "shard_1", "ledger", "buffers", "loss_predictor"],
    )
    variables = [v for part in driver.server.variables.values() for v in part]
    self.assertLen({id(v) for v in variables}, len(variables))

    def run(learned):
      for i in range(14):
        driver.push(
          i % 2, [[0.5, 1.0], [0.25]], 2.0 - i / 20, contributions=[1.0]
        )
        learned = driver.server.learn(learned)
      return learned

    driver.pull(0)
    driver.pull(1)
    learned = run(tf.constant(0, tf.int64))
    saved = [variable.numpy() for variable in variables]
    replies = dict(driver._replies)
    run(learned)
    first = [variable.numpy() for variable in variables]
    for variable, value in zip(variables, saved, strict=True):
      variable.assign(value)
    driver._replies = replies
    run(learned)
    for variable, value in zip(variables, first, strict=True):
      np.testing.assert_array_equal(variable, value)
    # Restoring was not for nothing.
    self.assertGreater(np.max(np.abs(first[0] - saved[0])), 0.01)


class LifetimeTest(absltest.TestCase):
  def test_nothing_stays_behind(self):
    driver = _Driver(
      [[1.0, 2.0], [3.0]],
      _LOSS(),
      functools.partial(keras.optimizers.SGD, 0.1, momentum=0.9),
      jit_compile=True,
      loss_predictor=predictors.get("lstm").copy(),
      step_predictor=predictors.StepPredictor(),
    )
    driver.pull(0)
    driver.push(0, [[1.0, 1.0], [1.0]])
    learn = tf.function(driver.server.learn)
    learn(tf.constant(0, tf.int64))
    handles = _handles(driver.server)
    self.assertGreater(len(handles), 20)
    del driver, learn
    gc.collect()
    self.assertEmpty([each for each in handles if each() is not None])


def _handles(hosted):
  return [
    weakref.ref(variable.value.handle)
    for part in hosted.variables.values()
    for variable in part
  ]


class SnapshotsTest(absltest.TestCase):
  def test_each_worker_has_its_own(self):
    kept = snapshots.SeparateSnapshots(tf.constant([1.0, 2.0]), 3)

    @tf.function
    def swap(worker, weights):
      handle = kept.handle(worker)
      old = kept.read(handle)
      with tf.control_dependencies([old]):
        written = kept.write(handle, weights)
      with tf.control_dependencies([written]):
        return old, kept.read(kept.handle(worker, kept.handles()))

    old, new = swap(tf.constant(1, tf.int64), tf.constant([3.0, 4.0]))
    np.testing.assert_array_equal(old, [1.0, 2.0])
    np.testing.assert_array_equal(new, [3.0, 4.0])
    old, new = swap(tf.constant(2, tf.int64), tf.constant([5.0, 6.0]))
    np.testing.assert_array_equal(old, [1.0, 2.0])
    values = [variable.numpy().tolist() for variable in kept.variables]
    self.assertEqual(values, [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


if __name__ == "__main__":
  absltest.main()
