"""Tests for the model that looks up what the loss predictor has to guess."""

import functools

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import lc_asgd_tf
from lc_asgd_tf import compensation, delays
from lc_asgd_tf import errors as errors_lib
from lc_asgd_tf.comparison import oracle

_WORKERS = 3
_BATCH = 4
_STEPS = 30
_RNG = np.random.default_rng(0)
_X = _RNG.normal(size=(_BATCH * _STEPS, 4)).astype("float32")
_Y = np.argmax(_X[:, :3], axis=1)


class _Witness(compensation.Compensation):
  """ASGD that remembers the Delta which it was shown."""

  uses_prediction = True
  initial_signals = (0.0,)

  def observe(self, sums, arrival):
    return arrival.predicted_change[tf.newaxis]

  def compensate(self, gradient, displacement, second_moment, coefficients):
    return gradient


class _Watcher(keras.callbacks.Callback):
  """Notes what can be known from outside before and after every push."""

  def __init__(self):
    super().__init__()
    self.pushes = []

  def on_train_batch_begin(self, batch, logs=None):
    simulation = self.model.optimizer.simulation
    ledger = simulation.server.ledger
    worker = int(simulation.workers.turn)
    self.pushes.append(
      {
        "batch": batch,
        "snapshot": [w.numpy() for w in self.model.trainable_weights],
        "server": [w.numpy() for w in simulation.server.shards[0].weights],
        "staleness": int(ledger.version) - int(ledger.pulled[worker]),
        "version": int(ledger.version),
        "line": ledger.loss_forecast.numpy(),
      }
    )

  def on_train_batch_end(self, batch, logs=None):
    ledger = self.model.optimizer.simulation.server.ledger
    self.pushes[-1]["shown"] = float(ledger.signals[0])


def _network(normalized=False):
  keras.utils.set_random_seed(0)
  inputs = keras.Input((4,))
  x = keras.layers.Dense(5, activation="tanh")(inputs)
  if normalized:
    x = keras.layers.BatchNormalization(momentum=0.5)(x)
  return keras.Model(inputs, keras.layers.Dense(3)(x))


def _optimizer(rule=None, learning_rate=0.3, num_workers=_WORKERS):
  return lc_asgd_tf.AsyncOptimizer(
    keras.optimizers.SGD(learning_rate, momentum=0.5),
    rule or _Witness(),
    loss_predictor="holt",
    num_workers=num_workers,
    delays=delays.Heterogeneous(seed=1),
  )


def _fit(model, optimizer, callbacks=()):
  model.compile(
    optimizer,
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    jit_compile=False,
  )
  model.fit(
    _X,
    _Y,
    batch_size=_BATCH,
    shuffle=False,
    verbose=0,
    callbacks=[lc_asgd_tf.callbacks.ServerWeights(), *callbacks],
  )
  return model


@functools.cache
def _watched(*, decides):
  """Returns a model after an epoch, and its pushes."""
  watcher = _Watcher()
  model = oracle.OracleModel(_network(), decides=decides)
  return _fit(model, _optimizer(), [watcher]), watcher.pushes


def _loss(weights, batch):
  """Returns the loss of a batch, by NumPy."""
  rows = slice(batch * _BATCH, (batch + 1) * _BATCH)
  hidden, hidden_bias, kernel, bias = (
    np.asarray(w, "float64") for w in weights
  )
  logits = np.tanh(_X[rows] @ hidden + hidden_bias) @ kernel + bias
  log = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
  return -np.mean(log[np.arange(_BATCH), _Y[rows]])


def _true_change(push):
  return _loss(push["server"], push["batch"]) - _loss(
    push["snapshot"], push["batch"]
  )


def _predicted_change(push):
  """Returns what the forecast line says, by NumPy; None if there is none."""
  level, slope, origin, drawn = push["line"]
  if drawn < 0:
    return None
  steps = drawn - origin - np.array([0, push["staleness"]])
  return -np.diff(np.exp(np.minimum(level + slope * steps, 3.0)))[0]


class OracleModelTest(parameterized.TestCase):
  def test_decides_by_the_true_change(self):
    _, pushes = _watched(decides=True)
    self.assertLen(pushes, _STEPS)
    true = [_true_change(push) for push in pushes]
    shown = [push["shown"] for push in pushes]
    np.testing.assert_allclose(shown, true, atol=2e-6)
    # The workers do come late, and it matters.
    self.assertGreater(max(push["staleness"] for push in pushes), 2)
    self.assertGreater(np.max(np.abs(true)), 0.05)
    # From the first push on: the oracle needs no warm-up.
    late = next(p for p in pushes if p["staleness"])
    self.assertLess(late["version"], 12)
    self.assertNotEqual(late["shown"], 0.0)

  def test_a_fresh_worker_sees_no_change(self):
    _, pushes = _watched(decides=True)
    fresh = [push["shown"] for push in pushes if not push["staleness"]]
    self.assertNotEmpty(fresh)
    self.assertEqual(fresh, [0.0] * len(fresh))

  def test_otherwise_the_rule_sees_the_prediction(self):
    _, pushes = _watched(decides=False)
    predicted = [_predicted_change(push) for push in pushes]
    self.assertEqual(predicted[:12], [None] * 12)
    self.assertNotIn(None, predicted[12:])
    np.testing.assert_allclose(
      [push["shown"] for push in pushes],
      [0.0] * 12 + predicted[12:],
      atol=1e-6,
    )
    self.assertGreater(np.max(np.abs(predicted[12:])), 1e-3)

  @parameterized.parameters(False, True)
  def test_errors_add_up(self, decides):
    model, pushes = _watched(decides=decides)
    predicted, true = [], []
    for push in pushes:
      change = _predicted_change(push)
      if change is not None:
        predicted.append(change)
        true.append(_true_change(push))
    self.assertLen(predicted, _STEPS - 12)
    errors = model.change_errors()
    self.assertCountEqual(
      errors, ["change_mae", "change_mae_persistence", "change_predicted"]
    )
    predicted, true = np.array(predicted), np.array(true)
    for name, expected in (
      ("change_mae", np.mean(np.abs(predicted - true))),
      ("change_mae_persistence", np.mean(np.abs(true))),
      ("change_predicted", np.mean(predicted)),
    ):
      self.assertAlmostEqual(errors[name], expected, delta=1e-6)
    self.assertGreater(errors["change_mae_persistence"], 1e-3)

  def test_judges_the_predictor_and_not_itself(self):
    """The predictor of 16 workers draws a line with every fourth push."""
    guessing, knowing = (
      _fit(
        oracle.OracleModel(_network(), decides=decides),
        _optimizer(num_workers=16),
      )
      for decides in (False, True)
    )
    # The rule makes nothing of what it sees: both have trained alike.
    self.assertIsNotNone(guessing.change_errors()["change_mae"])
    self.assertEqual(guessing.change_errors(), knowing.change_errors())

  def test_knows_no_errors_where_nothing_is_predicted(self):
    model = oracle.OracleModel(_network(), decides=False)
    _fit(model, _optimizer(compensation.Uncompensated()))
    self.assertEqual(set(model.change_errors().values()), {None})

  def test_refuses_a_loss_of_the_models_own(self):
    class Own(keras.Model):
      def compute_loss(self, *args, **kwargs):
        return 2.0 * super().compute_loss(*args, **kwargs)

    network = _network()
    with self.assertRaisesRegex(errors_lib.UserError, "overrides compute_loss"):
      oracle.OracleModel(Own(network.inputs, network.outputs), decides=False)

  def test_counts_training_until_it_is_reset(self):
    model = _fit(oracle.OracleModel(_network(), decides=False), _optimizer())
    errors = model.change_errors()
    self.assertNotIn(None, errors.values())
    model.evaluate(_X, _Y, verbose=0)
    self.assertEqual(model.change_errors(), errors)
    model.reset()
    self.assertEqual(set(model.change_errors().values()), {None})

  def test_looking_changes_nothing(self):
    """Neither weights nor moving statistics nor the server, to the bit."""
    plain, watched = (
      _fit(model, _optimizer(compensation.LossCompensated()))
      for model in (
        _network(normalized=True),
        oracle.OracleModel(_network(normalized=True), decides=False),
      )
    )
    self.assertIsNotNone(watched.change_errors()["change_mae"])
    for one, other in zip(
      plain.get_weights() + plain.optimizer.variables,
      watched.get_weights() + watched.optimizer.variables,
      strict=True,
    ):
      np.testing.assert_array_equal(one, other)

  def test_sees_the_other_batch_statistics_of_the_servers_weights(self):
    """With batch normalization Delta* is of both losses in training mode."""
    model = oracle.OracleModel(_network(normalized=True), decides=True)
    watcher = _Watcher()
    _fit(model, _optimizer(), [watcher])
    copy = _network(normalized=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for push in watcher.pushes:
      rows = slice(push["batch"] * _BATCH, (push["batch"] + 1) * _BATCH)
      losses = []
      for name in ("server", "snapshot"):
        for weight, value in zip(
          copy.trainable_weights, push[name], strict=True
        ):
          weight.assign(value)
        losses.append(float(loss(_Y[rows], copy(_X[rows], training=True))))
      self.assertAlmostEqual(push["shown"], losses[0] - losses[1], delta=3e-6)

  def test_a_loss_that_is_not_finite_is_not_shown(self):
    """The rule then sees what it would have seen without the oracle."""

    class Saboteur(keras.callbacks.Callback):
      def on_train_batch_begin(self, batch, logs=None):
        if batch == 5:
          shard = self.model.optimizer.simulation.server.shards[0]
          shard.weights[2].assign(shard.weights[2] * np.inf)

    watcher = _Watcher()
    model = oracle.OracleModel(_network(), decides=True)
    _fit(model, _optimizer(), [Saboteur(), watcher])
    before, at = watcher.pushes[4:6]
    for push in (before, at):
      self.assertGreater(push["staleness"], 0)
      self.assertIsNone(_predicted_change(push))
    self.assertNotEqual(before["shown"], 0.0)
    self.assertFalse(np.any(np.isfinite(at["server"][2])))
    self.assertEqual(at["shown"], 0.0)

  def test_with_one_worker_there_is_nothing_to_look_up(self):
    plain, watched = (
      _fit(model, _optimizer(num_workers=1))
      for model in (_network(), oracle.OracleModel(_network(), decides=True))
    )
    for one, other in zip(
      plain.get_weights(), watched.get_weights(), strict=True
    ):
      np.testing.assert_array_equal(one, other)
    self.assertEqual(set(watched.change_errors().values()), {None})


if __name__ == "__main__":
  absltest.main()
