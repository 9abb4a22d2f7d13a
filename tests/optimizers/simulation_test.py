"""Tests for asynchronous training simulated in Keras's own fit."""

import collections
import functools
import glob
import hashlib
import os
import subprocess
import sys
import unittest
import warnings

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import lc_asgd_tf
from lc_asgd_tf import delays, predictors
from lc_asgd_tf.predictors import forecast
from tests.server import trajectories

_ServerWeights = lc_asgd_tf.callbacks.ServerWeights

_X = np.random.default_rng(0).normal(size=(48, 4)).astype("float32")
_Y = np.sum(_X, axis=1, keepdims=True) ** 2 / 10
_BATCH = 8
_STEPS = 6


def _model(seed=0, **arguments):
  keras.utils.set_random_seed(seed)
  return keras.Sequential(
    [
      keras.Input((4,)),
      keras.layers.Dense(5, activation="tanh", **arguments),
      keras.layers.Dense(1, **arguments),
    ]
  )


class Beside(keras.Model):
  """Has a layer that its output does not depend on."""

  def __init__(self):
    super().__init__()
    self.used, self.beside = (
      keras.layers.Dense(units, kernel_initializer="ones") for units in (1, 2)
    )
    for layer in (self.used, self.beside):
      layer.build((None, 4))
    self.built = True

  def call(self, x):
    return self.used(x)


def _fit(
  optimizer, epochs=2, callbacks=(), model=None, server=True, **arguments
):
  """Returns a model and its history after a short training."""
  model = model or _model()
  model.compile(optimizer=optimizer, loss="mse", **arguments)
  return model, _fit_on(model, epochs, callbacks, server)


def _fit_on(model, epochs=2, callbacks=(), server=True, **arguments):
  return model.fit(
    _X,
    _Y,
    batch_size=_BATCH,
    epochs=epochs,
    shuffle=False,
    verbose=0,
    callbacks=[_ServerWeights()] * server + list(callbacks),
    **arguments,
  ).history


def _server_weights(model):
  shard = model.optimizer.simulation.server.shards[0]
  return [weight.numpy() for weight in shard.weights]


def _statistics(model):
  """Returns pushes, rejected, staleness_sum, staleness_max, ..."""
  return model.optimizer.simulation.server.ledger.statistics.numpy()


def _flat(arrays):
  return np.concatenate([np.ravel(array) for array in arrays])


def _asgd(num_workers=4, learning_rate=0.02, **arguments):
  return lc_asgd_tf.ASGD(learning_rate, num_workers=num_workers, **arguments)


def _lc_asgd(num_workers=4, loss_predictor="holt", **arguments):
  return lc_asgd_tf.LCASGD(
    0.02,
    momentum=0.5,
    num_workers=num_workers,
    loss_predictor=loss_predictor,
    **arguments,
  )


class _Recorder(keras.callbacks.Callback):
  """Notes what `read(model)` returns after every call of the train step."""

  def __init__(self, read):
    super().__init__()
    self._read = read
    self.values = []

  def on_train_batch_end(self, batch, logs=None):
    self.values.append(self._read(self.model))


class _EpochRecorder(_Recorder):
  """Notes what `read(model)` returns after every epoch."""

  def on_train_batch_end(self, batch, logs=None):
    pass

  def on_epoch_end(self, epoch, logs=None):
    self.values.append(self._read(self.model))


class _SimulationTestCase(parameterized.TestCase):
  def assert_same_bits(self, ones, others):
    self.assertEqual(len(ones), len(others))
    for one, other in zip(ones, others, strict=True):
      np.testing.assert_array_equal(np.asarray(one), np.asarray(other))

  def assert_different(self, ones, others):
    self.assertFalse(np.array_equal(_flat(ones), _flat(others)))

  def assert_trained(self, model, initial=None):
    """Checks that the weights are finite and not those of the beginning."""
    weights = model.get_weights()
    self.assertTrue(np.all(np.isfinite(_flat(weights))))
    if initial is None:
      initial = _model().get_weights()
    self.assert_different(weights, initial)


class _Interleaved(delays.Delays):
  """The delays that make the table's order: push number i comes at i + 1."""

  def _draw(self, rng, num_workers):
    table = np.full((num_workers, 8), 1000.0)
    pushes = [e for e in trajectories.INTERLEAVED if e.action == "push"]
    for worker in range(num_workers):
      arrivals = [i + 1 for i, e in enumerate(pushes) if e.worker == worker]
      table[worker, : len(arrivals)] = np.diff(arrivals, prepend=0)
    return table


class _Resting(delays.Homogeneous):
  """Every third step or so begins with a rest, of five steps on average."""

  def rests(self, num_workers):
    rng = np.random.default_rng(self.seed)
    rests = rng.uniform(0.0, 10.0, (num_workers, 64))
    return np.tile(np.where(rng.random(rests.shape) < 0.3, rests, 0), (1, 64))


class _TableOf(delays.Delays):
  def __init__(self, table):
    super().__init__()
    self._table = table

  def table(self, num_workers):
    return self._table


class _LinePredictor(predictors.LossPredictor):
  """Says what the table's line says."""

  def __init__(self, level=0.0, slope=0.0):
    self._line = (level, slope)

  def build(self, num_workers):
    pass

  def learn(self, rows, first, last):
    pass

  def forecast(self, rows, now):
    level, slope = (tf.constant(value, tf.float64) for value in self._line)
    origin = tf.zeros([], tf.float64)
    return forecast.Forecast(level, slope, origin, tf.cast(now, tf.float64))

  @property
  def variables(self):
    return []

  def get_config(self):
    return dict(zip(("level", "slope"), self._line, strict=True))


class _Quadratic(keras.layers.Layer):
  """1/2 sum(k w^2) of the curvatures k that it is fed, shape=(batch, n)."""

  def build(self, input_shape):
    self._weights = [
      self.add_weight(shape=part.shape, name=f"w{i}")
      for i, part in enumerate(trajectories.split(trajectories.INITIAL))
    ]

  def call(self, k):
    w = keras.ops.concatenate([keras.ops.ravel(w) for w in self._weights])
    return 0.5 * keras.ops.sum(k * w**2, axis=-1, keepdims=True)


class TrajectoryTest(_SimulationTestCase):
  """The table of hand-computed trajectories, hosted by Keras.

  A simulated worker pulls when it has pushed and at no other time, so that the
  cases in which one pulls anew cannot be replayed here.
  """

  @parameterized.named_parameters(
    (f"{case.name}_{'compiled' if jit_compile else 'plain'}", case, jit_compile)
    for case in trajectories.CASES
    if case.events is trajectories.INTERLEAVED
    for jit_compile in (False, True)
    # Compiling takes a second; what XLA makes of it, momentum shows as well.
    if case.momentum or not jit_compile
  )
  def test_follows_the_equations(self, case, jit_compile):
    expected = case.simulate()
    model = keras.Sequential([keras.Input((7,)), _Quadratic()])
    model.set_weights(trajectories.split(trajectories.INITIAL))
    model.compile(
      optimizer=lc_asgd_tf.AsyncOptimizer(
        keras.optimizers.SGD(
          trajectories.LEARNING_RATE, momentum=case.momentum
        ),
        case.rule,
        # Holt's is silent before its twelfth report.
        loss_predictor=_LinePredictor(*case.line) if case.line else "holt",
        num_workers=trajectories.NUM_WORKERS,
        delays=_Interleaved(),
      ),
      loss=lambda y_true, y_pred: keras.ops.mean(y_pred),
      jit_compile=jit_compile,
    )
    weights = _Recorder(_server_weights)
    staleness = _Recorder(lambda model: _statistics(model)[2])
    curvatures = np.stack(
      [trajectories.curvatures(push) for push in range(len(expected))]
    ).astype("float32")
    model.fit(
      curvatures,
      np.zeros((len(expected), 1)),
      batch_size=1,
      shuffle=False,
      verbose=0,
      callbacks=[_ServerWeights(), weights, staleness],
    )
    self.assertEqual(
      np.diff(staleness.values, prepend=0).tolist(),
      [step.staleness for step in expected],
    )
    self.assertLen(weights.values, len(expected))
    for actual, step in zip(weights.values, expected, strict=True):
      np.testing.assert_allclose(_flat(actual), step.weights, rtol=0, atol=2e-5)

  def test_delays_make_the_order_of_the_table(self):
    pushes = [e for e in trajectories.INTERLEAVED if e.action == "push"]
    table = _Interleaved().table(2)
    _, turns, _ = replay(table, len(pushes))
    self.assertEqual(turns, [e.worker for e in pushes])


def replay(table, pushes, rests=None):
  """Plays the virtual clock in plain Python.

  Returns:
    The staleness, the worker and the time of each push.
  """
  rests = np.zeros_like(table) if rests is None else rests
  pulls = [float(row[0]) for row in rests]
  arrivals = [
    pull + float(row[0]) for pull, row in zip(pulls, table, strict=True)
  ]
  begun = [1] * len(table)
  pulled = [0] * len(table)
  staleness, turns, times = [], [], []
  for version in range(pushes):
    worker = min(range(len(table)), key=lambda m: (arrivals[m], m))
    now = arrivals[worker]
    # Who pulls before this push, and after the last one, has its version.
    for m, pull in enumerate(pulls):
      if pull is not None and (pull < now or m == worker):
        pulled[m], pulls[m] = version, None
    staleness.append(version - pulled[worker])
    turns.append(worker)
    times.append(now)
    step = begun[worker] % table.shape[1]
    pull = now + float(rests[worker][step])
    arrivals[worker] = pull + float(table[worker][step])
    if pull > now:
      pulls[worker] = pull
    else:
      pulled[worker] = version + 1
    begun[worker] += 1
  return staleness, turns, times


_INNER = {
  "sgd": lambda **kw: keras.optimizers.SGD(0.1, **kw),
  "momentum": lambda **kw: keras.optimizers.SGD(0.1, 0.9, **kw),
  "nesterov": lambda **kw: keras.optimizers.SGD(0.1, 0.9, nesterov=True, **kw),
  "adam": lambda **kw: keras.optimizers.Adam(0.02, **kw),
  "adamw": lambda **kw: keras.optimizers.AdamW(0.02, weight_decay=0.1, **kw),
}
_SCHEDULE = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)


class OneWorkerTest(_SimulationTestCase):
  """One worker is never late: the inner optimizer's trajectory, to the bit."""

  @parameterized.named_parameters(
    *((name, new, {}) for name, new in _INNER.items()),
    ("clipnorm", _INNER["momentum"], {"clipnorm": 0.1}),
    ("global_clipnorm", _INNER["adam"], {"global_clipnorm": 0.1}),
    ("clipvalue", _INNER["sgd"], {"clipvalue": 0.01}),
    ("weight_decay", _INNER["momentum"], {"weight_decay": 0.1}),
    ("ema", _INNER["momentum"], {"use_ema": True, "ema_momentum": 0.5}),
    (
      "ema_overwriting",
      _INNER["adamw"],
      {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2},
    ),
    ("accumulation", _INNER["momentum"], {"gradient_accumulation_steps": 3}),
    (
      "schedule",
      lambda: keras.optimizers.SGD(_SCHEDULE, momentum=0.9),
      {},
    ),
  )
  def test_equals_the_inner_optimizer(self, new, arguments):
    optimizer = lc_asgd_tf.AsyncOptimizer(
      new(**arguments), lc_asgd_tf.compensation.LossCompensated()
    )
    actual, actual_history = _fit(optimizer)
    expected, expected_history = _fit(new(**arguments))
    self.assertIsNone(optimizer.simulation)
    self.assert_same_bits(actual.get_weights(), expected.get_weights())
    self.assertEqual(actual_history, expected_history)
    self.assert_trained(actual)


def _digest(seed=0):
  """Returns a digest of all state after a short training."""
  random = delays.Heterogeneous(seed=seed)
  optimizer = _lc_asgd(loss_predictor="lstm", delays=random)
  model, _ = _fit(optimizer, epochs=3)
  state = model.get_weights() + [np.asarray(v) for v in optimizer.variables]
  joined = b"".join(np.ascontiguousarray(v).tobytes() for v in state)
  return hashlib.sha256(joined).hexdigest()


class DeterminismTest(_SimulationTestCase):
  def test_same_seed_same_bits(self):
    """Twice in one process, and in another one."""
    first = _digest()
    self.assertEqual(_digest(), first)
    program = (
      "from tests.optimizers import simulation_test\n"
      "print(simulation_test._digest())\n"
    )
    finished = subprocess.run(
      [sys.executable, "-c", program],
      env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
      capture_output=True,
      text=True,
      timeout=120,
    )
    self.assertEqual(finished.returncode, 0, finished.stderr)
    self.assertEqual(finished.stdout.split()[-1], first)

  def test_seed_of_the_delays(self):
    weights = [
      _fit(_asgd(**arguments))[0].get_weights()
      for arguments in (
        {"seed": 0},
        {"seed": 1},
        {"delays": delays.Homogeneous(seed=1)},
        {"delays": delays.Homogeneous(seed=1), "seed": 2},
      )
    ]
    self.assert_different(weights[0], weights[1])
    # The optimizer's own seed is the one of the default delays only.
    self.assert_same_bits(weights[1], weights[2])
    self.assert_same_bits(weights[2], weights[3])

  def test_compiled_agrees_to_rounding(self):
    plain, compiled = (
      _fit(_lc_asgd(), epochs=5, jit_compile=jit_compile)
      for jit_compile in (False, True)
    )
    self.assertEqual(_statistics(plain[0])[0], 5 * _STEPS)
    self.assert_trained(plain[0])
    np.testing.assert_allclose(
      _flat(compiled[0].get_weights()), _flat(plain[0].get_weights()), rtol=1e-4
    )
    np.testing.assert_allclose(compiled[1]["loss"], plain[1]["loss"], rtol=1e-4)

  def test_eager_agrees_to_rounding(self):
    plain, eager = (
      _fit(_asgd(), run_eagerly=run_eagerly)[0] for run_eagerly in (False, True)
    )
    np.testing.assert_allclose(
      _flat(eager.get_weights()), _flat(plain.get_weights()), rtol=1e-4
    )

  @parameterized.parameters(False, True)
  def test_steps_per_execution(self, jit_compile):
    """Also where the last execution of an epoch is a short one."""
    one, five = (
      _fit(
        _lc_asgd(),
        epochs=3,
        steps_per_execution=steps,
        jit_compile=jit_compile,
      )
      for steps in (1, 5)
    )
    self.assert_same_bits(one[0].get_weights(), five[0].get_weights())
    self.assert_same_bits(
      one[0].optimizer.variables, five[0].optimizer.variables
    )
    self.assertEqual(one[1], five[1])


class CountTest(_SimulationTestCase):
  @parameterized.parameters(2, 5)
  def test_constant_delays_take_turns(self, num_workers):
    total = _Recorder(lambda model: _statistics(model)[2])
    time = _Recorder(lambda m: float(m.optimizer.simulation.workers.time))
    turn = _Recorder(lambda m: int(m.optimizer.simulation.workers.turn))
    model, _ = _fit(
      _asgd(num_workers, delays=delays.Constant()),
      callbacks=[total, time, turn],
    )
    pushes = 2 * _STEPS
    self.assertEqual(
      np.diff(total.values, prepend=0).tolist(),
      [min(push, num_workers - 1) for push in range(pushes)],
    )
    self.assertEqual(
      time.values, [push // num_workers + 1 for push in range(pushes)]
    )
    self.assertEqual(
      turn.values, [(push + 1) % num_workers for push in range(pushes)]
    )
    self.assertEqual(_statistics(model)[3], num_workers - 1)

  @parameterized.named_parameters(
    ("homogeneous", delays.Homogeneous(0.5, seed=1)),
    ("heterogeneous", delays.Heterogeneous(seed=2)),
    ("heavy_tailed", delays.HeavyTailed(seed=3)),
  )
  def test_follows_the_table(self, model_of_delays):
    total = _Recorder(lambda model: _statistics(model)[2])
    time = _Recorder(lambda m: float(m.optimizer.simulation.workers.time))
    model, _ = _fit(
      _asgd(5, delays=model_of_delays), epochs=4, callbacks=[total, time]
    )
    staleness, turns, times = replay(model_of_delays.table(5), 4 * _STEPS)
    self.assertEqual(
      np.diff(total.values, prepend=0).astype(int).tolist(), staleness
    )
    self.assertEqual(time.values, times)
    workers = model.optimizer.simulation.workers
    self.assertEqual(
      workers.steps.numpy().tolist(),
      (np.bincount(turns, minlength=5) + 1).tolist(),
    )

  @parameterized.parameters((1, False), (2, True))
  def test_workers_rest_before_they_pull(self, seed, jit_compile):
    resting = _Resting(seed=seed)
    total = _Recorder(lambda model: _statistics(model)[2])
    time = _Recorder(lambda m: float(m.optimizer.simulation.workers.time))
    _fit(
      _asgd(5, delays=resting),
      epochs=4,
      callbacks=[total, time],
      jit_compile=jit_compile,
    )
    staleness, _, times = replay(resting.table(5), 4 * _STEPS, resting.rests(5))
    awake, _, _ = replay(resting.table(5), 4 * _STEPS)
    self.assertLess(np.sum(staleness), 0.8 * np.sum(awake))
    self.assertEqual(
      np.diff(total.values, prepend=0).astype(int).tolist(), staleness
    )
    self.assertEqual(time.values, times)

  def test_begins_anew_with_rests_only_where_there_were_some(self):
    model, _ = _fit(_asgd(3, delays=_Resting(seed=1)))
    model.optimizer.simulation.begin(_Resting(seed=3))
    self.assertTrue(
      np.any(np.isfinite(model.optimizer.simulation.workers.pulls))
    )
    model.optimizer.simulation.begin(delays.Constant())
    self.assertTrue(np.all(np.isinf(model.optimizer.simulation.workers.pulls)))
    model, _ = _fit(_asgd(3))
    with self.assertRaisesRegex(ValueError, "without rests"):
      model.optimizer.simulation.begin(_Resting())

  def test_a_worker_pulls_what_is_there_after_its_rest(self):
    class Turns(delays.Delays):
      """Worker 1 rests while worker 0 pushes three times."""

      def _draw(self, rng, num_workers):
        return np.array([[1.0], [0.25]])

      def rests(self, num_workers):
        return np.array([[0.0], [3.5]])

    weights = _Recorder(_server_weights)
    snapshots = _Recorder(
      lambda m: m.optimizer.simulation.workers.snapshots.numpy()
    )
    _fit(_asgd(2, delays=Turns()), callbacks=[weights, snapshots])
    for push in range(2):
      np.testing.assert_array_equal(
        snapshots.values[push][1], snapshots.values[0][1]
      )
    # At 3 worker 0 pushes, at 3.5 worker 1 pulls that, at 3.75 it pushes.
    self.assertTrue(np.any(snapshots.values[2][1] != snapshots.values[1][1]))
    np.testing.assert_array_equal(
      snapshots.values[2][1], _flat(weights.values[2])
    )

  def test_counts_add_up(self):
    model, _ = _fit(_lc_asgd(3), epochs=3)
    simulation = model.optimizer.simulation
    pushes = 3 * _STEPS
    self.assertEqual(int(simulation.server.ledger.version), pushes)
    self.assertEqual(int(model.optimizer.iterations), pushes)
    self.assertEqual(_statistics(model)[0], pushes)
    self.assertEqual(_statistics(model)[1], 0)
    # A step that has begun is not a push yet.
    self.assertEqual(int(np.sum(simulation.workers.steps)), pushes + 3)

  @parameterized.parameters(
    lambda: keras.optimizers.AdamW(0.01, weight_decay=0.5),
    lambda: keras.optimizers.Ftrl(0.1),
    lambda: keras.optimizers.SGD(0.1, 0.9, gradient_accumulation_steps=2),
  )
  def test_weights_without_a_gradient_stay_as_they_are(self, inner):
    model = Beside()
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always")
      _fit(lc_asgd_tf.AsyncOptimizer(inner(), num_workers=3), model=model)
    messages = [str(each.message) for each in caught]
    self.assertLen(
      [m for m in messages if m.startswith("Gradients do not exist for")], 1
    )
    kernel, bias = model.beside.get_weights()
    np.testing.assert_array_equal(kernel, np.ones([4, 2]))
    np.testing.assert_array_equal(bias, np.zeros([2]))
    self.assertTrue(np.all(model.used.get_weights()[0] != 1.0))

  def test_delays_repeat(self):
    class Short(delays.Delays):
      def _draw(self, rng, num_workers):
        return rng.uniform(0.5, 1.5, size=(num_workers, 3))

    time = _Recorder(lambda m: float(m.optimizer.simulation.workers.time))
    _fit(_asgd(2, delays=Short(seed=1)), epochs=4, callbacks=[time])
    _, _, times = replay(Short(seed=1).table(2), 4 * _STEPS)
    self.assertEqual(time.values, times)


class ServerWeightsTest(_SimulationTestCase):
  @parameterized.parameters([()], [(keras.Input((4,)),)])
  def test_refuses_what_assigns_weights_in_the_forward_pass(self, begin):
    layer = keras.layers.SpectralNormalization(keras.layers.Dense(1))
    model = keras.Sequential([*begin, layer])
    model.compile(_asgd(3), "mse")
    with self.assertRaisesRegex(ValueError, "assigns its weights in the"):
      model.fit(_X, _Y, verbose=0, callbacks=[_ServerWeights()])

  @parameterized.parameters(0.0, 1e-3)
  def test_takes_over_weights_that_it_has_shown_before(self, change):
    """As who goes back to the end of an epoch, after some steps too many."""
    model, _ = _fit(_asgd())
    weights = [weight + change for weight in model.get_weights()]
    # Until no worker has these for its snapshot any more.
    for _ in range(2 * model.optimizer.num_workers):
      model.train_on_batch(_X[:_BATCH], _Y[:_BATCH])
    model.set_weights(weights)
    model.optimizer.learning_rate = 0.0
    _fit_on(model, 1)
    self.assert_same_bits(model.get_weights(), weights)

  @parameterized.parameters(lc_asgd_tf.DCASGD, lc_asgd_tf.DANA)
  def test_weights_that_are_set_after_a_divergence_are_a_new_start(self, rule):
    model = _model()
    weights = model.get_weights()
    model.compile(optimizer=rule(0.01, num_workers=2), loss="mse")
    model.fit(_X * np.nan, _Y, verbose=0, callbacks=[_ServerWeights()])
    self.assertTrue(np.isnan(model.get_weights()[0]).all())
    model.set_weights(weights)
    self.assertTrue(np.isfinite(_fit_on(model)["loss"]).all())

  def test_validation_sees_the_server(self):
    # Before the callback, so that it does not owe anything to it.
    weights = _EpochRecorder(_server_weights)
    model = _model()
    model.compile(optimizer=_asgd(), loss="mse")
    history = model.fit(
      _X,
      _Y,
      batch_size=_BATCH,
      epochs=3,
      verbose=0,
      validation_data=(_X[:20], _Y[:20]),
      callbacks=[weights, _ServerWeights()],
    ).history
    other = _model(seed=1)
    other.compile(loss="mse")
    for value, loss in zip(weights.values, history["val_loss"], strict=True):
      other.set_weights(value)
      self.assertEqual(
        other.evaluate(_X[:20], _Y[:20], batch_size=_BATCH, verbose=0), loss
      )

  def test_the_difference_is_seen(self):
    """Without the callback, validation sees a worker's snapshot."""
    losses = []
    for callbacks in ([], [_ServerWeights()]):
      model = _model()
      model.compile(optimizer=_asgd(), loss="mse")
      history = model.fit(
        _X,
        _Y,
        batch_size=_BATCH,
        epochs=1,
        shuffle=False,
        verbose=0,
        validation_data=(_X, _Y),
        callbacks=callbacks,
      )
      losses.append(history.history["val_loss"])
    self.assertNotEqual(losses[0], losses[1])

  def test_training_does_not_notice_validation(self):
    validated = _model()
    validated.compile(optimizer=_lc_asgd(), loss="mse")
    _fit_on(validated, 3, validation_data=(_X, _Y))
    plain, _ = _fit(_lc_asgd(), 3)
    self.assert_same_bits(validated.get_weights(), plain.get_weights())

  @parameterized.parameters(False, True)
  def test_the_model_ends_with_the_servers_weights(self, server):
    model, _ = _fit(_asgd(), server=server)
    self.assert_same_bits(model.get_weights(), _server_weights(model))
    self.assert_trained(model)

  def test_the_callback_does_not_change_the_training(self):
    self.assert_same_bits(
      _fit(_asgd(), server=False)[0].get_weights(),
      _fit(_asgd(), server=True)[0].get_weights(),
    )

  @parameterized.parameters((4, False, 1), (4, True, 0), (1, False, 0))
  def test_warns_who_forgets_it(self, num_workers, server, expected):
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always")
      _fit(_asgd(num_workers), server=server)
    about = [w for w in caught if "ServerWeights" in str(w.message)]
    self.assertEqual(min(len(about), 1), expected)

  @parameterized.parameters(
    (_lc_asgd, -9.0, 1), (_lc_asgd, 0.0, 0), (_asgd, -9.0, 0)
  )
  def test_warns_of_a_negative_loss(self, new, constant, expected):
    model = _model()
    model.compile(
      new(), lambda y, y_pred: keras.ops.mean((y - y_pred) ** 2) + constant
    )
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("default")
      _fit_on(model, 3)
    about = [w for w in caught if "negative" in str(w.message)]
    self.assertLen(about, expected)

  def test_does_nothing_to_other_optimizers(self):
    actual, _ = _fit(keras.optimizers.SGD(0.1), server=True)
    expected, _ = _fit(keras.optimizers.SGD(0.1), server=False)
    self.assert_same_bits(actual.get_weights(), expected.get_weights())

  def test_checkpoints_hold_the_servers_weights(self):
    folder = self.create_tempdir().full_path
    weights = _EpochRecorder(_server_weights)
    _fit(
      _asgd(),
      3,
      callbacks=[
        weights,
        keras.callbacks.ModelCheckpoint(folder + "/{epoch}.keras"),
        keras.callbacks.ModelCheckpoint(
          folder + "/{epoch}.weights.h5", save_weights_only=True
        ),
      ],
    )
    for epoch, expected in enumerate(weights.values):
      saved = keras.models.load_model(f"{folder}/{epoch + 1}.keras")
      self.assert_same_bits(saved.get_weights(), expected)
      other = _model(seed=1)
      other.load_weights(f"{folder}/{epoch + 1}.weights.h5")
      self.assert_same_bits(other.get_weights(), expected)

  def test_checkpoints_between_epochs_hold_the_servers_weights(self):
    folder = self.create_tempdir().full_path
    weights = _Recorder(_server_weights)
    _fit(
      _asgd(),
      1,
      server=False,
      callbacks=[
        _ServerWeights(at_batch_end=True),
        keras.callbacks.ModelCheckpoint(folder + "/{batch}.keras", save_freq=2),
        weights,
      ],
    )
    saved = sorted(glob.glob(folder + "/*.keras"))
    self.assertLen(saved, _STEPS // 2)
    for path, expected in zip(saved, weights.values[1::2], strict=True):
      self.assert_same_bits(
        keras.models.load_model(path).get_weights(), expected
      )

  @parameterized.product(at_batch_end=(False, True), same=(False, True))
  def test_evaluation_within_an_epoch_changes_no_training(
    self, at_batch_end, same
  ):
    server_weights = _ServerWeights(at_batch_end)

    def evaluate(batch, logs=None):
      del logs
      if batch == 1:
        callback = server_weights if same else _ServerWeights()
        model.evaluate(_X, _Y, verbose=0, callbacks=[callback])

    model, _ = _fit(_asgd(), 0)
    _fit_on(
      model,
      2,
      server=False,
      callbacks=[
        server_weights,
        keras.callbacks.LambdaCallback(on_train_batch_end=evaluate),
      ],
    )
    undisturbed, _ = _fit(_asgd(), 2)
    self.assert_same_bits(model.get_weights(), undisturbed.get_weights())

  @parameterized.parameters(True, False)
  def test_a_loop_over_batches_may_look_at_the_servers_weights(self, evaluate):
    def trained(looks):
      model, other = _model(), _model()
      model.compile(_asgd(), "mse")
      for i in range(3 * _STEPS):
        part = slice(i % _STEPS * _BATCH, (i % _STEPS + 1) * _BATCH)
        model.train_on_batch(_X[part], _Y[part])
        if looks and i % 5 == 3:
          look = {"verbose": 0, "callbacks": [_ServerWeights()]}
          if evaluate:
            model.evaluate(_X, _Y, **look)
            continue
          seen = model.predict(_X, **look)
          other.set_weights(_server_weights(model))
          np.testing.assert_array_equal(seen, other.predict(_X, verbose=0))
      return model.get_weights()

    self.assert_same_bits(trained(looks=True), trained(looks=False))

  @parameterized.named_parameters(("asgd", _asgd), ("lc_asgd", _lc_asgd))
  def test_training_goes_on_from_a_checkpoint(self, new):
    folder = self.create_tempdir().full_path
    model, history = _fit(
      new(),
      4,
      callbacks=[keras.callbacks.ModelCheckpoint(folder + "/{epoch}.keras")],
    )
    restored = keras.models.load_model(folder + "/2.keras")
    self.assertEqual(int(restored.optimizer.iterations), 2 * _STEPS)
    continued = _fit_on(restored, 4, initial_epoch=2)
    self.assertEqual(continued["loss"], history["loss"][2:])
    self.assert_same_bits(restored.get_weights(), model.get_weights())
    self.assert_same_bits(
      restored.optimizer.variables, model.optimizer.variables
    )

  def test_early_stopping_restores(self):
    class Worsening(keras.callbacks.Callback):
      def on_epoch_end(self, epoch, logs=None):
        logs["score"] = -float(epoch)

    weights = _EpochRecorder(_server_weights)
    model, history = _fit(
      _asgd(),
      9,
      callbacks=[
        Worsening(),
        weights,
        keras.callbacks.EarlyStopping(
          "score", mode="max", patience=2, restore_best_weights=True
        ),
      ],
    )
    self.assertLen(history["loss"], 3)
    self.assert_same_bits(model.get_weights(), weights.values[0])
    self._check_everyone_has(model, weights.values[0])

  def test_weights_set_between_two_fits_are_adopted(self):
    model, _ = _fit(_asgd())
    values = _model(seed=7).get_weights()
    model.set_weights(values)
    self._check_everyone_has(model, values)

  @parameterized.product(
    hook=("on_train_begin", "on_epoch_begin", "on_epoch_end", "on_test_end"),
    first=(False, True),
    epoch=(0, 2),
  )
  def test_weights_that_a_callback_sets_are_adopted(self, hook, first, epoch):
    values = _model(seed=7).get_weights()

    def set_weights(*unused):
      if calls[hook] == epoch or hook == "on_train_begin":
        model.set_weights(values)
      calls[hook] += 1

    calls = collections.Counter()
    setter = keras.callbacks.LambdaCallback()
    setattr(setter, hook, set_weights)
    callbacks = [setter, _ServerWeights()]
    model, _ = _fit(_asgd(), 1)
    model.optimizer.learning_rate = 0.0
    _fit_on(
      model,
      3,
      server=False,
      callbacks=callbacks if first else callbacks[::-1],
      validation_data=(_X, _Y),
    )
    self.assertGreater(calls[hook], 0)
    self.assert_same_bits(model.get_weights(), values)
    self._check_everyone_has(model, values)

  def test_averages_that_are_swapped_in_are_not_adopted(self):
    def new():
      sgd = keras.optimizers.SGD(0.02, use_ema=True, ema_momentum=0.5)
      return lc_asgd_tf.AsyncOptimizer(sgd, num_workers=4)

    def averages(model):
      sgd = model.optimizer.inner_optimizer
      return [v.numpy() for v in sgd._model_variables_moving_average]

    expected = _EpochRecorder(averages)
    undisturbed, history = _fit(new(), 3, callbacks=[expected])
    shown = _EpochRecorder(lambda model: model.get_weights())
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    model, swapped = _fit(
      new(), 3, [swap, _ServerWeights(), shown], server=False
    )
    # Keras swaps by adding and subtracting, which rounds.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    close(swapped["loss"], history["loss"])
    for ones, others in zip(shown.values, expected.values, strict=True):
      close(_flat(ones), _flat(others))
    close(_flat(model.get_weights()), _flat(undisturbed.get_weights()))

  def _check_everyone_has(self, model, values):
    """Checks that all workers and the server go on from these weights."""
    expected = model.evaluate(_X, _Y, batch_size=_BATCH, verbose=0)
    model.optimizer.learning_rate = 0.0
    history = _fit_on(model, 1)
    self.assertEqual(history["loss"], [expected])
    self.assert_same_bits(model.get_weights(), values)
    self.assert_same_bits(_server_weights(model), values)

  def test_weights_loaded_before_fit_are_taken(self):
    """Also where the optimizer has been built with others."""
    model = _model()
    model.compile(optimizer=_asgd(learning_rate=0.0), loss="mse")
    model.optimizer.build(model.trainable_variables)
    values = _model(seed=7).get_weights()
    model.set_weights(values)
    _fit_on(model, 1)
    self.assert_same_bits(model.get_weights(), values)

  @parameterized.parameters(False, True)
  def test_fit_again(self, server):
    model, first = _fit(_asgd(), server=server)
    second = _fit_on(model, 2, server=server)
    self.assertLess(second["loss"][-1], first["loss"][0])
    self.assertEqual(_statistics(model)[0], 4 * _STEPS)
    self.assertEqual(int(model.optimizer.iterations), 4 * _STEPS)
    self.assert_same_bits(model.get_weights(), _server_weights(model))

  def test_goes_on_after_an_interruption(self):
    """A snapshot that is left in the model is not taken for new weights."""

    class Interrupt(keras.callbacks.Callback):
      def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
          raise KeyboardInterrupt

    model = _model()
    with self.assertRaises(KeyboardInterrupt):
      _fit(_asgd(), callbacks=[Interrupt()], model=model)
    expected = _server_weights(model)
    self.assert_different(model.get_weights(), expected)
    model.optimizer.finalize_variable_values(model.trainable_variables)
    self.assert_same_bits(model.get_weights(), expected)
    model.optimizer.learning_rate = 0.0
    _fit_on(model, 1)
    self.assert_same_bits(_server_weights(model), expected)

  def test_zero_epochs(self):
    model = _model()
    model.compile(optimizer=_asgd(), loss="mse")
    _fit_on(model, 0)
    self.assert_same_bits(model.get_weights(), _model().get_weights())

  def test_predicts_with_the_servers_weights(self):
    """Even if a callback predicts in the middle of an epoch."""
    seen = []

    class Peek(keras.callbacks.Callback):
      def on_epoch_end(self, epoch, logs=None):
        other = _model(seed=1)
        other.set_weights(_server_weights(self.model))
        seen.append(
          (
            self.model.predict(_X, verbose=0),
            other.predict(_X, verbose=0),
          )
        )

    _fit(_asgd(), callbacks=[Peek()])
    self.assertLen(seen, 2)
    for actual, expected in seen:
      np.testing.assert_array_equal(actual, expected)


class KerasTest(_SimulationTestCase):
  """What scripts do around the optimizer."""

  def test_refuses_an_inner_optimizer_of_another_model(self):
    sgd = keras.optimizers.SGD(0.1)
    sgd.build(_model().trainable_variables)
    with self.assertRaisesRegex(ValueError, "SGD, is built for variables of"):
      _fit(lc_asgd_tf.AsyncOptimizer(sgd, num_workers=2))

  def test_frozen_layer(self):
    model = _model()
    model.layers[0].trainable = False
    before = model.get_weights()
    _fit(_asgd(), model=model)
    after = model.get_weights()
    self.assert_same_bits(after[:2], before[:2])
    self.assert_different(after[2:], before[2:])

  @parameterized.parameters(1, 3)
  def test_layer_without_gradient(self, num_workers):
    class Extra(keras.layers.Layer):
      def build(self, input_shape):
        self.idle = self.add_weight(shape=(2,), initializer="ones")

      def call(self, x):
        return x

    model = _model()
    model = keras.Sequential([keras.Input((4,)), Extra(), *model.layers])
    _fit(_asgd(num_workers), model=model)
    np.testing.assert_array_equal(model.layers[0].idle, [1.0, 1.0])
    self.assert_trained(model)

  def test_takes_turns_on_one_device(self):
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
      model = _model()
      model.compile(_asgd(3), "mse")
    with self.assertRaisesRegex(
      ValueError, "take turns on one device: .* or set num_workers=1"
    ):
      model.fit(_X, _Y, verbose=0)

  @unittest.skipUnless(
    hasattr(keras.optimizers, "MultiOptimizer"), "Keras has no MultiOptimizer."
  )
  def test_several_learning_rates_are_scaled_alike(self):
    def trained(inner):
      rule = lc_asgd_tf.compensation.StalenessAware()
      optimizer = lc_asgd_tf.AsyncOptimizer(inner, rule, num_workers=3)
      return _fit(optimizer)[0].get_weights()

    one = keras.optimizers.SGD(0.02)
    two = [keras.optimizers.SGD(0.02) for _ in range(2)]
    several = keras.optimizers.MultiOptimizer(
      lambda variable: two["bias" in variable.path]
    )
    self.assert_same_bits(trained(several), trained(one))
    self.assertAlmostEqual(float(two[0].learning_rate), 0.02)

  @unittest.skipUnless(
    hasattr(keras.optimizers, "MultiOptimizer"), "Keras has no MultiOptimizer."
  )
  @parameterized.named_parameters(
    ("rounds", lc_asgd_tf.compensation.Synchronous, None),
    ("its_own", lc_asgd_tf.compensation.Uncompensated, 2),
  )
  def test_several_optimizers_accumulate_nothing(self, rule, steps):
    several = keras.optimizers.MultiOptimizer(
      lambda variable: keras.optimizers.SGD(gradient_accumulation_steps=steps)
    )
    optimizer = lc_asgd_tf.AsyncOptimizer(several, rule(), num_workers=3)
    with self.assertRaisesRegex(ValueError, "MultiOptimizer cannot make one"):
      _fit(optimizer)

  def test_a_model_that_is_not_compiled(self):
    model = _model()
    expected = model.predict(_X, verbose=0)
    actual = model.predict(_X, verbose=0, callbacks=[_ServerWeights()])
    np.testing.assert_array_equal(actual, expected)

  @parameterized.parameters(1, 3)
  def test_a_second_optimizer_may_not_simulate_workers(self, num_workers):
    model = _model()
    model.compile(_asgd(), "mse")
    model.second = _asgd(num_workers)
    if num_workers == 1:
      _fit_on(model, 1)
      return
    with self.assertRaisesRegex(ValueError, "model.second simulates workers"):
      _fit_on(model, 1)

  @unittest.skipUnless(
    hasattr(keras.optimizers, "MultiOptimizer"), "Keras has no MultiOptimizer."
  )
  def test_nor_may_parts_of_one(self):
    both = [_asgd(), _asgd()]
    model = _model()
    model.compile(
      keras.optimizers.MultiOptimizer(lambda v: both["bias" in v.path]), "mse"
    )
    model.optimizer.build(model.trainable_variables)
    with self.assertRaisesRegex(ValueError, "simulates workers, too"):
      _fit_on(model, 1)

  def test_evaluation_reads_weights_that_were_set_since(self):
    model, _ = _fit(lc_asgd_tf.ASGD(0.02, num_workers=3))
    weights = [np.full_like(w, 0.5) for w in model.get_weights()]
    for read in (
      lambda: model.evaluate(_X, _Y, verbose=0, callbacks=[_ServerWeights()]),
      lambda: model.predict(_X, verbose=0, callbacks=[_ServerWeights()]),
    ):
      model.set_weights(weights)
      read()
      self.assert_same_bits(model.get_weights(), weights)

  def test_two_outputs(self):
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(5, activation="tanh")(inputs)
    outputs = {
      "value": keras.layers.Dense(1, name="value")(hidden),
      "sign": keras.layers.Dense(1, activation="sigmoid", name="sign")(hidden),
    }
    model = keras.Model(inputs, outputs)
    before = model.get_weights()
    model.compile(
      optimizer=_lc_asgd(),
      loss={"value": "mse", "sign": "binary_crossentropy"},
      loss_weights={"value": 1.0, "sign": 0.5},
      metrics={"sign": ["accuracy"]},
    )
    history = model.fit(
      _X,
      {"value": _Y, "sign": (_X[:, :1] > 0).astype("float32")},
      epochs=8,
      batch_size=_BATCH,
      verbose=0,
      callbacks=[_ServerWeights()],
    ).history
    self.assert_trained(model, before)
    self.assertLess(history["loss"][-1], history["loss"][0])
    rows = model.optimizer.simulation.server.ledger.rows.numpy()
    self.assertTrue(np.any(rows > 0))

  @parameterized.named_parameters(
    ("bfloat16", "mixed_bfloat16", lambda: _lc_asgd(3, "lstm")),
    ("bfloat16_one_worker", "mixed_bfloat16", lambda: _lc_asgd(1)),
    ("float16", "mixed_float16", lambda: _asgd(3)),
    ("float16_one_worker", "mixed_float16", lambda: _lc_asgd(1)),
  )
  def test_mixed_precision(self, policy, new):
    """The predictors compute on, whatever the policy of the model is."""
    optimizer = new()
    model, history = self._fit_under(policy, optimizer)
    self.assertEqual(model.layers[0].compute_dtype, policy[len("mixed_") :])
    # Keras wraps the optimizer, for float16 only.
    self.assertEqual(
      isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer),
      policy == "mixed_float16",
    )
    self.assert_trained(model)
    self.assertLess(history["loss"][-1], history["loss"][0])
    if optimizer.simulation is not None:
      shard = optimizer.simulation.server.shards[0]
      self.assert_same_bits(
        model.get_weights(), [w.numpy() for w in shard.weights]
      )

  def test_mixed_float16_hides_the_loss(self):
    """Keras tells the loss to its own wrapper, which does not pass it on."""
    with self.assertRaisesRegex(ValueError, "mixed_float16.*mixed_bfloat16"):
      self._fit_under("mixed_float16", _lc_asgd(3))

  def test_mixed_float16_shows_the_servers_weights(self):
    server = _EpochRecorder(
      lambda model: _flat(
        model.optimizer.inner_optimizer.simulation.server.shards[0].weights
      )
    )
    held = _EpochRecorder(lambda model: _flat(model.get_weights()))
    self._fit_under("mixed_float16", _asgd(3), [server, held])
    self.assert_same_bits(held.values, server.values)

  def _fit_under(self, policy, optimizer, callbacks=()):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
      return _fit(optimizer, 4, callbacks)
    finally:
      keras.config.set_dtype_policy(before)

  def test_learning_rate_callbacks(self):
    rates = keras.callbacks.LearningRateScheduler(
      lambda epoch, rate: 0.02 / 2**epoch
    )
    model, history = _fit(_asgd(), 3, callbacks=[rates])
    np.testing.assert_allclose(
      history["learning_rate"], [0.02, 0.01, 0.005], rtol=1e-6
    )
    np.testing.assert_allclose(float(model.optimizer.learning_rate), 0.005)
    self.assert_different(
      model.get_weights(), _fit(_asgd(), 3)[0].get_weights()
    )

  def test_the_learning_rate_reaches_the_server(self):
    stop = keras.callbacks.LearningRateScheduler(
      lambda epoch, rate: 0.02 * (epoch < 2)
    )
    stopped, _ = _fit(_asgd(), 4, callbacks=[stop])
    self.assert_same_bits(
      stopped.get_weights(), _fit(_asgd(), 2)[0].get_weights()
    )

  def test_reduce_on_plateau(self):
    reduce = keras.callbacks.ReduceLROnPlateau(
      monitor="loss", factor=0.5, patience=1, min_delta=1e9
    )
    model, _ = _fit(_asgd(), 4, callbacks=[reduce])
    self.assertLess(float(model.optimizer.learning_rate), 0.02)

  def test_inner_arguments(self):
    plain, _ = _fit(_asgd())
    for arguments in (
      {"weight_decay": 0.1},
      {"use_ema": True, "ema_momentum": 0.5},
      {"gradient_accumulation_steps": 2},
    ):
      model, _ = _fit(_asgd(**arguments))
      self.assert_trained(model)
      self.assert_different(model.get_weights(), plain.get_weights())
      self.assert_same_bits(model.get_weights(), _server_weights(model))

  def test_clipped_steps_are_short(self):
    weights = _Recorder(_server_weights)
    _fit(_asgd(learning_rate=1.0, clipnorm=0.01), callbacks=[weights])
    for before, after in zip(weights.values, weights.values[1:], strict=False):
      for one, other in zip(before, after, strict=True):
        self.assertLess(np.linalg.norm(other - one), 0.0101)

  def test_constraint(self):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
      [
        keras.Input((4,)),
        keras.layers.Dense(5, kernel_constraint="non_neg"),
        keras.layers.Dense(1),
      ]
    )
    _fit(_asgd(), model=model)
    self.assertGreaterEqual(np.min(model.get_weights()[0]), 0)
    self.assert_trained(model)

  @parameterized.parameters(False, True)
  def test_lazily_built_model(self, jit_compile):
    def lazy():
      keras.utils.set_random_seed(0)
      return keras.Sequential(
        [keras.layers.Dense(5, activation="tanh"), keras.layers.Dense(1)]
      )

    model, _ = _fit(_lc_asgd(), model=lazy(), jit_compile=jit_compile)
    expected = lazy()
    expected.build((None, 4))
    expected, _ = _fit(_lc_asgd(), model=expected, jit_compile=jit_compile)
    self.assert_same_bits(model.get_weights(), expected.get_weights())
    self.assert_trained(model)

  @parameterized.parameters("asgd", "lc_asgd")
  def test_ported_text_classifier(self, rule):
    generator = np.random.default_rng(0)
    words = generator.integers(1, 20, size=(64, 6))
    labels = (words[:, 0] > 10).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
      [
        keras.layers.Embedding(20, 4, mask_zero=True),
        keras.layers.LSTM(4),
        keras.layers.Dense(1, activation="sigmoid"),
      ]
    )
    inner = keras.optimizers.Adam(0.02)
    arguments = {"inner_optimizer": inner, "num_workers": 4}
    model.compile(
      optimizer=lc_asgd_tf.ASGD(**arguments)
      if rule == "asgd"
      else lc_asgd_tf.LCASGD(loss_predictor="holt", **arguments),
      loss="binary_crossentropy",
      metrics=["accuracy"],
    )
    history = model.fit(
      words,
      labels,
      epochs=10,
      validation_split=0.25,
      batch_size=8,
      verbose=0,
      callbacks=[_ServerWeights()],
    ).history
    self.assertLess(history["loss"][-1], history["loss"][0])
    self.assertTrue(np.all(np.isfinite(history["val_loss"])))
    self.assertEqual(_statistics(model)[0], 10 * 6)

  def test_batch_normalization_and_dropout(self):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
      [
        keras.Input((4,)),
        keras.layers.Dense(5),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(1),
      ]
    )
    mean = model.layers[1].moving_mean.numpy()
    _fit(_lc_asgd(), model=model)
    self.assert_trained(model)
    self.assert_different([model.layers[1].moving_mean], [mean])

  def test_train_on_batch(self):
    model = _model()
    model.compile(optimizer=_asgd(), loss="mse")
    for _ in range(3):
      model.train_on_batch(_X, _Y)
    self.assertEqual(_statistics(model)[0], 3)
    self.assertTrue(np.all(np.isfinite(_flat(_server_weights(model)))))

  def test_custom_loop(self):
    variables = [keras.Variable(np.ones(3, "float32"), name="v")]
    optimizer = _asgd(2, learning_rate=0.5, delays=delays.Constant())
    for _ in range(4):
      optimizer.apply_gradients([(tf.ones(3), variables[0])])
    weights = optimizer.simulation.server.shards[0].weights
    np.testing.assert_array_equal(weights[0], np.full(3, -1.0))
    # The worker whose turn it is pulled two pushes ago, at its own.
    np.testing.assert_array_equal(variables[0], np.full(3, -0.5))

  def test_a_rule_that_needs_the_loss_asks_for_it(self):
    variables = [keras.Variable(np.ones(3, "float32"), name="v")]
    with self.assertRaisesRegex(ValueError, "scale_loss"):
      _lc_asgd(2).apply([tf.ones(3)], variables)

  def test_refuses_part_of_the_variables(self):
    variables = [
      keras.Variable(np.ones(3, "float32"), name=name) for name in "ab"
    ]
    optimizer = _asgd(2)
    optimizer.build(variables)
    with self.assertRaisesRegex(ValueError, "2 variables"):
      optimizer.apply([tf.ones(3)], variables[:1])

  @parameterized.named_parameters(
    ("no_workers", lambda: _asgd(0), ValueError, "num_workers"),
    ("negative", lambda: _asgd(-3), ValueError, "num_workers"),
    ("delays", lambda: _asgd(delays="constant"), TypeError, "delays"),
  )
  def test_refuses_bad_arguments(self, new, error, message):
    with self.assertRaisesRegex(error, message):
      new()

  @parameterized.named_parameters(
    ("nan", [[1.0, np.nan], [1.0, 1.0]], "not positive"),
    ("negative", [[1.0, -1.0], [1.0, 1.0]], "not positive"),
    ("rows", [[1.0, 2.0]], "one row of delays per worker"),
    ("flat", [1.0, 2.0], "one row of delays per worker"),
  )
  def test_refuses_delays_that_are_none(self, table, message):
    with self.assertRaisesRegex(ValueError, message):
      _fit(_asgd(2, delays=_TableOf(np.array(table))))

  def test_takes_delays_of_any_type(self):
    _, history = _fit(_asgd(2, delays=_TableOf([[1], [2]])))
    # Four steps of the one and two of the other per four units of time.
    self.assertEqual(history["virtual_time"], [4.0, 8.0])

  @parameterized.parameters(lc_asgd_tf.DANA, lc_asgd_tf.GapAwareSGD)
  def test_refuses_doubles_with_which_the_rule_would_compute(self, optimizer):
    with self.assertRaisesRegex(ValueError, "at most 32 bits"):
      _fit(optimizer(0.1, num_workers=2), model=_model(dtype="float64"))

  def test_refuses_gradients_that_are_values(self):
    model = _model()
    model.quantize("float8")
    with self.assertRaisesRegex(ValueError, "takes its gradient for its new"):
      _fit(_asgd(2), model=model)

  def test_refuses_other_variables(self):
    optimizer, model = _asgd(), _model()
    model.layers[0].trainable = False
    _fit(optimizer, model=model)
    model.layers[0].trainable = True
    with self.assertRaisesRegex(ValueError, "Unknown variable"):
      _fit(optimizer, model=model)
    with self.assertRaisesRegex(ValueError, "keras.Variable"):
      _asgd(2).apply_gradients([(tf.ones(2), tf.Variable([1.0, 2.0]))])

  def test_no_gradient_at_all(self):
    model = _model()
    model.compile(_asgd(), loss=lambda y, y_pred: tf.sign(y))
    with self.assertRaisesRegex(ValueError, "No gradients provided"):
      _fit_on(model)

  def test_inner_optimizer_chooses_by_path(self):
    class BiasesOnly(keras.optimizers.SGD):
      def apply(self, grads, trainable_variables=None):
        grads = [
          g * float(variable.path.endswith("/bias"))
          for g, variable in zip(grads, trainable_variables, strict=True)
        ]
        super().apply(grads, trainable_variables)

    model = _model()
    before = model.get_weights()
    optimizer = lc_asgd_tf.ASGD(inner_optimizer=BiasesOnly(0.1), num_workers=2)
    _fit(optimizer, model=model)
    after = model.get_weights()
    self.assert_same_bits(after[::2], before[::2])
    self.assert_different(after[1::2], before[1::2])

  def test_who_takes_over_other_weights_is_not_late(self):
    model, _ = _fit(_asgd(delays=delays.Constant()), epochs=1)
    begun = _fit_on(model, epochs=1)["staleness_mean"]
    model.set_weights(_model(seed=3).get_weights())
    begun_anew = _fit_on(model, epochs=1)["staleness_mean"]
    # 0, 3, 3, 3, 3, 3: who was next pulled when training ended; and 0, 1, 2, 3,
    # 3, 3, as at the beginning.
    self.assertEqual(begun, [2.5])
    self.assertEqual(begun_anew, [2.0])

  def test_doubles_that_nobody_changed_are_not_taken_over(self):
    # Some of whose halves are NaN.
    model = _model(dtype="float64")
    model.build()
    values = [
      (np.arange(w.size).reshape(w.shape) + 1.0) / 3
      for w in model.get_weights()
    ]
    values[0].view(np.int64)[0, 0] = 0x3FF000007FC00001
    model.set_weights(values)
    model.compile(
      _asgd(delays=delays.Constant(), learning_rate=0.0), loss="mse"
    )
    _fit_on(model, epochs=1)
    self.assertEqual(_fit_on(model, epochs=1)["staleness_mean"], [2.5])

  def test_the_next_fit_is_warned_again(self):
    model, _ = _fit(_asgd(), epochs=1)
    model.compile(model.optimizer, loss="mse")
    with self.assertWarnsRegex(UserWarning, "the snapshot of one simulated"):
      _fit_on(model, epochs=1, server=False)

  def test_eager_training_compiles_the_predictor_once(self):
    model = _model()
    model.compile(_lc_asgd(), loss="mse", run_eagerly=True)
    _fit_on(model, epochs=2)
    learn = model.optimizer.simulation._compiled_learn
    self.assertEqual(learn.experimental_get_tracing_count(), 1)

  def test_refuses_a_loss_scale(self):
    with self.assertRaisesRegex(ValueError, "loss_scale_factor does not work"):
      _fit(_asgd(loss_scale_factor=8.0))


if __name__ == "__main__":
  absltest.main()
