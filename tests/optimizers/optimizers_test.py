"""Tests for the optimizers as Keras sees them."""

import os
import unittest

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import lc_asgd_tf
from lc_asgd_tf import compensation, predictors

_OPTIMIZERS = {
  "asgd": lambda: lc_asgd_tf.ASGD(0.1, momentum=0.9),
  "asgd_nesterov": lambda: lc_asgd_tf.ASGD(0.1, momentum=0.5, nesterov=True),
  "asgd_named": lambda: lc_asgd_tf.ASGD(0.1, name="mine", weight_decay=0.01),
  "staleness_aware": lambda: lc_asgd_tf.StalenessAwareSGD(0.1, clipnorm=1.0),
  "dc_asgd_a": lambda: lc_asgd_tf.DCASGD(0.1, lambda_0=8.0, decay=0.9),
  "dc_asgd_c": lambda: lc_asgd_tf.DCASGD(0.1, momentum=0.9, adaptive=False),
  "lc_asgd": lambda: lc_asgd_tf.LCASGD(0.1, momentum=0.9),
  "lc_asgd_all": lambda: lc_asgd_tf.LCASGD(
    keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5),
    decay=0.9,
    cap=False,
    brake=2.0,
    horizon="predicted",
    keep_momentum=True,
    loss_predictor=predictors.LSTMLossPredictor(units=3, seed=5),
  ),
  "lc_asgd_adam": lambda: lc_asgd_tf.LCASGD(
    inner_optimizer=keras.optimizers.Adam(0.01), loss_predictor="holt"
  ),
  "async_adamw": lambda: lc_asgd_tf.AsyncOptimizer(
    keras.optimizers.AdamW(0.01, weight_decay=0.05),
    compensation.LossCompensated(ratio=0.5),
    loss_predictor="holt",
  ),
  "async_default": lambda: lc_asgd_tf.AsyncOptimizer(
    keras.optimizers.Adam(0.01)
  ),
}


def _model(seed=0):
  keras.utils.set_random_seed(seed)
  return keras.Sequential(
    [
      keras.Input((4,)),
      keras.layers.Dense(5, activation="tanh"),
      keras.layers.BatchNormalization(),
      keras.layers.Dense(1),
    ]
  )


_X = np.random.default_rng(0).normal(size=(48, 4)).astype("float32")
_Y = np.sum(_X, axis=1, keepdims=True) ** 2


def _fit(optimizer, epochs=2, callbacks=None, **compile_arguments):
  """Returns the model and its history after a short training."""
  model = _model()
  model.compile(optimizer=optimizer, loss="mse", **compile_arguments)
  history = model.fit(
    _X, _Y, batch_size=12, epochs=epochs, verbose=0, callbacks=callbacks
  )
  return model, history.history


class AsyncTestCase(parameterized.TestCase):
  def assert_same_bits(self, ones, others):
    self.assertEqual(len(ones), len(others))
    for one, other in zip(ones, others, strict=True):
      np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


class ConfigTest(AsyncTestCase):
  @parameterized.named_parameters(*_OPTIMIZERS.items())
  def test_round_trip(self, new):
    optimizer = new()
    restored = type(optimizer).from_config(optimizer.get_config())
    self.assertIs(type(restored), type(optimizer))
    self.assertEqual(restored.get_config(), optimizer.get_config())
    self.assertEqual(
      restored.compensation.get_config(), optimizer.compensation.get_config()
    )
    self.assertEqual(restored.name, optimizer.name)

  @parameterized.named_parameters(*_OPTIMIZERS.items())
  def test_survives_serialization(self, new):
    optimizer = new()
    for restored in (
      keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(optimizer)
      ),
      keras.optimizers.deserialize(keras.optimizers.serialize(optimizer)),
    ):
      self.assertIs(type(restored), type(optimizer))
      self.assertEqual(restored.get_config(), optimizer.get_config())
      self.assertIs(
        type(restored.inner_optimizer), type(optimizer.inner_optimizer)
      )
      self.assertIs(type(restored.compensation), type(optimizer.compensation))
      self.assertEqual(
        vars(restored.compensation), vars(optimizer.compensation)
      )
      self.assertIs(
        type(restored.loss_predictor), type(optimizer.loss_predictor)
      )

  def test_an_inner_optimizer_keeps_its_own_arguments(self):
    # As Keras's MultiOptimizer, it takes no gradient_accumulation_steps.
    @keras.saving.register_keras_serializable("lc_asgd_tf_test")
    class Own(keras.optimizers.SGD):
      def __init__(self, learning_rate=0.1):
        super().__init__(learning_rate)

      def get_config(self):
        return {"learning_rate": float(self.learning_rate)}

    optimizer = lc_asgd_tf.AsyncOptimizer(Own(0.25), num_workers=3)
    config = optimizer.get_config()
    restored = lc_asgd_tf.AsyncOptimizer.from_config(config)
    self.assertIsInstance(restored.inner_optimizer, Own)
    self.assertEqual(restored.get_config(), config)

  @parameterized.parameters(
    ("asgd", compensation.Uncompensated, {}),
    ("staleness_aware", compensation.StalenessAware, {}),
    (
      "dc_asgd_a",
      compensation.DelayCompensatedAdaptive,
      {"lambda_0": 8.0, "decay": 0.9},
    ),
    ("dc_asgd_c", compensation.DelayCompensatedConstant, {"lambda_0": 0.04}),
    (
      "lc_asgd",
      compensation.LossCompensated,
      {
        "decay": 0.95,
        "cap": True,
        "brake": 5.0,
        "window": True,
        "ratio": None,
        "horizon": "observed",
        "keep_momentum": False,
      },
    ),
    (
      "lc_asgd_all",
      compensation.LossCompensated,
      {
        "decay": 0.9,
        "cap": False,
        "brake": 2.0,
        "window": True,
        "ratio": None,
        "horizon": "predicted",
        "keep_momentum": True,
      },
    ),
    ("async_default", compensation.Uncompensated, {}),
  )
  def test_has_the_rule_of_its_name(self, name, rule, config):
    optimizer = _OPTIMIZERS[name]()
    self.assertIs(type(optimizer.compensation), rule)
    self.assertEqual(optimizer.compensation.get_config(), config)

  def test_dc_asgd_defaults_are_those_of_the_paper(self):
    self.assertEqual(lc_asgd_tf.DCASGD().compensation.lambda_0, 2.0)
    self.assertEqual(
      lc_asgd_tf.DCASGD(adaptive=False).compensation.lambda_0, 0.04
    )

  def test_arguments_reach_the_inner_optimizer(self):
    optimizer = lc_asgd_tf.LCASGD(
      0.25, 0.5, True, weight_decay=0.125, clipnorm=2.0
    )
    config = optimizer.inner_optimizer.get_config()
    self.assertIsInstance(optimizer.inner_optimizer, keras.optimizers.SGD)
    self.assertEqual(config["learning_rate"], 0.25)
    self.assertEqual(config["momentum"], 0.5)
    self.assertTrue(config["nesterov"])
    self.assertEqual(config["weight_decay"], 0.125)
    self.assertEqual(config["clipnorm"], 2.0)

  @parameterized.parameters(1, 3)
  def test_what_is_set_afterwards_reaches_it_too(self, num_workers):
    optimizer = lc_asgd_tf.ASGD(
      0.1, clipnorm=2.0, weight_decay=0.5, num_workers=num_workers
    )
    self.assertEqual(optimizer.clipnorm, 2.0)
    self.assertEqual(optimizer.weight_decay, 0.5)
    self.assertIsNone(optimizer.clipvalue)
    self.assertIsNone(optimizer.global_clipnorm)
    optimizer.clipnorm = 1e-9
    optimizer.weight_decay = None
    before = _model().trainable_weights
    model, _ = _fit(optimizer, epochs=1)
    for new, old in zip(model.trainable_weights, before, strict=True):
      np.testing.assert_allclose(new.numpy(), old.numpy(), atol=1e-6)

  @parameterized.parameters(
    ("lstm", predictors.LSTMLossPredictor),
    ("holt", predictors.HoltLossPredictor),
  )
  def test_loss_predictor_by_name(self, name, expected):
    optimizer = lc_asgd_tf.LCASGD(loss_predictor=name)
    self.assertIs(type(optimizer.loss_predictor), expected)


class ErrorTest(AsyncTestCase):
  @parameterized.named_parameters(
    ("loss_scale", lambda o: keras.optimizers.LossScaleOptimizer(o)),
    ("itself", lambda o: lc_asgd_tf.AsyncOptimizer(o)),
    ("a_rule", lambda o: lc_asgd_tf.LCASGD(inner_optimizer=o)),
  )
  def test_refuses_what_it_cannot_host(self, wrap):
    inner = wrap(keras.optimizers.SGD(0.1))
    with self.assertRaisesRegex(ValueError, "cannot be the inner optimizer"):
      lc_asgd_tf.AsyncOptimizer(inner)
    with self.assertRaisesRegex(ValueError, "cannot be the inner optimizer"):
      lc_asgd_tf.LCASGD(inner_optimizer=inner)

  @parameterized.product(
    optimizer=(
      lc_asgd_tf.ASGD,
      lc_asgd_tf.StalenessAwareSGD,
      lc_asgd_tf.DCASGD,
      lc_asgd_tf.LCASGD,
    ),
    arguments=({"momentum": 0.9}, {"nesterov": True}, {"clipnorm": 1.0}),
  )
  def test_refuses_arguments_of_the_inner_optimizer(self, optimizer, arguments):
    with self.assertRaisesRegex(ValueError, "belong to the inner optimizer"):
      optimizer(inner_optimizer=keras.optimizers.Adam(0.1), **arguments)

  @parameterized.parameters(7, None, keras.optimizers.SGD)
  def test_refuses_what_is_no_optimizer(self, inner_optimizer):
    with self.assertRaisesRegex(TypeError, "^inner_optimizer must be a keras"):
      lc_asgd_tf.AsyncOptimizer(inner_optimizer)

  def test_refuses_an_optimizer_that_keras_does_not_know(self):
    with self.assertRaisesRegex(ValueError, "no_such_optimizer"):
      lc_asgd_tf.AsyncOptimizer("no_such_optimizer")

  @parameterized.named_parameters(
    ("predictor", lambda: lc_asgd_tf.LCASGD(loss_predictor="arima")),
    ("horizon", lambda: lc_asgd_tf.LCASGD(horizon="past")),
    ("brake", lambda: lc_asgd_tf.LCASGD(brake=-1.0)),
    ("lambda_0", lambda: lc_asgd_tf.DCASGD(lambda_0=-1.0)),
    ("decay", lambda: lc_asgd_tf.DCASGD(decay=1.0)),
    ("momentum", lambda: lc_asgd_tf.ASGD(momentum=2.0)),
    ("unknown", lambda: lc_asgd_tf.ASGD(no_such_argument=1)),
    ("seed", lambda: lc_asgd_tf.ASGD(seed=-1)),
  )
  def test_refuses_bad_arguments(self, new):
    with self.assertRaises(ValueError):
      new()

  @parameterized.named_parameters(
    ("rule", lambda: lc_asgd_tf.AsyncOptimizer("sgd", "dc_asgd")),
    (
      "class_of_a_rule",
      lambda: lc_asgd_tf.AsyncOptimizer("sgd", compensation.Uncompensated),
    ),
    ("part_of_a_worker", lambda: lc_asgd_tf.ASGD(num_workers=2.7)),
    ("no_number", lambda: lc_asgd_tf.ASGD(num_workers="4")),
    ("part_of_a_seed", lambda: lc_asgd_tf.ASGD(seed=1.7)),
    ("no_seed", lambda: lc_asgd_tf.ASGD(seed=None)),
  )
  def test_refuses_bad_types(self, new):
    with self.assertRaisesRegex(TypeError, "must be an"):
      new()

  def test_refuses_another_rule(self):
    with self.assertRaisesRegex(TypeError, "has a rule of its own: .*Async"):
      lc_asgd_tf.ASGD(compensation=compensation.StalenessAware())

  @unittest.skipUnless(
    hasattr(keras.optimizers, "ScheduleFreeAdamW"), "Keras does not have it."
  )
  @parameterized.parameters(1, 3)
  def test_refuses_what_begins_with_weights_that_are_not_there(self, workers):
    inner = keras.optimizers.ScheduleFreeAdamW(0.01)
    optimizer = lc_asgd_tf.ASGD(inner_optimizer=inner, num_workers=workers)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    with self.assertRaisesRegex(ValueError, "give it a keras.Input, or call"):
      model.fit(_X, _Y, verbose=0)

  @parameterized.parameters(1, 2)
  def test_gradients_alone_need_a_built_optimizer(self, num_workers):
    with self.assertRaisesRegex(ValueError, "not built"):
      lc_asgd_tf.ASGD(num_workers=num_workers).apply([tf.ones(2)])

  def test_the_number_of_workers_can_be_set_until_it_is_built(self):
    optimizer = lc_asgd_tf.ASGD(num_workers=2)
    optimizer.num_workers = 3
    with self.assertRaisesRegex(ValueError, "must be at least 1"):
      optimizer.num_workers = 0
    optimizer.build([keras.Variable([1.0])])
    self.assertEqual(optimizer.simulation.workers.snapshots.shape[0], 3)
    optimizer.num_workers = 3
    with self.assertRaisesRegex(ValueError, "is built for num_workers=3"):
      optimizer.num_workers = 4
    self.assertEqual(optimizer.get_config()["num_workers"], 3)

  def test_whole_numbers_are_not_for_rules_that_average_squares(self):
    weights = [keras.Variable([1, 2], dtype="int32", name="counts")]
    with self.assertRaisesRegex(ValueError, "counts is int32"):
      lc_asgd_tf.LCASGD(num_workers=2).build(weights)
    lc_asgd_tf.ASGD(num_workers=2).build(weights)


_SCHEDULE = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)


class FitTest(AsyncTestCase):
  """In plain `fit` nothing is late: Keras's own trajectory, bit for bit."""

  @parameterized.named_parameters(
    (
      "lc_asgd",
      lambda: lc_asgd_tf.LCASGD(0.1, momentum=0.9),
      lambda: keras.optimizers.SGD(0.1, momentum=0.9),
      {},
    ),
    (
      "lc_asgd_compiled",
      lambda: lc_asgd_tf.LCASGD(0.1, momentum=0.9),
      lambda: keras.optimizers.SGD(0.1, momentum=0.9),
      {"jit_compile": True, "steps_per_execution": 2},
    ),
    (
      "dc_asgd_schedule",
      lambda: lc_asgd_tf.DCASGD(_SCHEDULE, nesterov=True, momentum=0.5),
      lambda: keras.optimizers.SGD(_SCHEDULE, nesterov=True, momentum=0.5),
      {},
    ),
    (
      "staleness_aware_ema",
      lambda: lc_asgd_tf.StalenessAwareSGD(
        0.1, use_ema=True, ema_momentum=0.5, global_clipnorm=1.0
      ),
      lambda: keras.optimizers.SGD(
        0.1, use_ema=True, ema_momentum=0.5, global_clipnorm=1.0
      ),
      {},
    ),
    (
      "adamw",
      lambda: lc_asgd_tf.AsyncOptimizer(
        keras.optimizers.AdamW(0.05, weight_decay=0.1, loss_scale_factor=8.0),
        compensation.LossCompensated(),
      ),
      lambda: keras.optimizers.AdamW(
        0.05, weight_decay=0.1, loss_scale_factor=8.0
      ),
      {},
    ),
    (
      "accumulation",
      lambda: lc_asgd_tf.ASGD(0.1, gradient_accumulation_steps=2),
      lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
      {},
    ),
  )
  def test_equals_keras(self, new, plain, arguments):
    actual, actual_history = _fit(new(), **arguments)
    expected, expected_history = _fit(plain(), **arguments)
    self.assert_same_bits(actual.get_weights(), expected.get_weights())
    self.assertEqual(actual_history, expected_history)
    self.assert_same_bits(
      actual.optimizer.inner_optimizer.variables, expected.optimizer.variables
    )
    self.assertEqual(
      int(actual.optimizer.iterations), int(expected.optimizer.iterations)
    )
    # Something was learned.
    self.assertGreater(
      np.max(np.abs(actual.get_weights()[0] - _model().get_weights()[0])), 1e-3
    )

  def test_callbacks_set_the_learning_rate(self):
    def run(optimizer):
      schedule = keras.callbacks.LearningRateScheduler(
        lambda epoch, rate: 0.1 / (epoch + 1)
      )
      return _fit(optimizer, epochs=3, callbacks=[schedule])

    actual, history = run(lc_asgd_tf.LCASGD(0.5, momentum=0.9))
    expected, _ = run(keras.optimizers.SGD(0.5, momentum=0.9))
    self.assert_same_bits(actual.get_weights(), expected.get_weights())
    np.testing.assert_allclose(
      history["learning_rate"], [0.1, 0.05, 0.1 / 3], rtol=1e-6
    )

  def test_custom_loop(self):
    def run(optimizer):
      variables = [keras.Variable(np.ones(3, "float32"), name="v")]
      for step in range(3):
        gradients = [tf.constant([1.0, -2.0, 0.5]) * (step + 1)]
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
      return variables

    self.assert_same_bits(
      run(lc_asgd_tf.ASGD(0.1, momentum=0.9)),
      run(keras.optimizers.SGD(0.1, momentum=0.9)),
    )

  @parameterized.parameters(1, 2)
  def test_apply_gradients_returns_iterations(self, num_workers):
    optimizer = lc_asgd_tf.ASGD(0.1, num_workers=num_workers)
    pairs = [(tf.ones(3), keras.Variable(np.ones(3, "float32"), name="v"))]
    counts = [int(optimizer.apply_gradients(pairs)) for _ in range(3)]
    self.assertEqual(counts, [1, 2, 3])

  def test_loss_scale_beside_keras_own(self):
    def moved(optimizer):
      model = _model()
      before = model.get_weights()
      wrapped = keras.optimizers.LossScaleOptimizer(optimizer)
      model.compile(wrapped, "mse", auto_scale_loss=False)
      model.fit(_X, _Y, batch_size=12, shuffle=False, verbose=0)
      pairs = zip(model.get_weights(), before, strict=True)
      return [after - old for after, old in pairs]

    # Keras clears the inner factor, since it scales by one of its own.
    self.assert_same_bits(
      moved(lc_asgd_tf.ASGD(0.1, loss_scale_factor=8.0)),
      moved(keras.optimizers.SGD(0.1, loss_scale_factor=8.0)),
    )


class LearningRateTest(AsyncTestCase):
  def test_is_the_inner_optimizers(self):
    optimizer = lc_asgd_tf.LCASGD(0.25)
    self.assertEqual(float(optimizer.learning_rate), 0.25)
    optimizer.learning_rate = 0.5
    self.assertEqual(float(optimizer.learning_rate), 0.5)
    self.assertEqual(float(optimizer.inner_optimizer.learning_rate), 0.5)
    optimizer.learning_rate.assign(0.125)
    self.assertEqual(float(optimizer.inner_optimizer.learning_rate), 0.125)
    variable = keras.Variable(np.ones(1, "float32"))
    optimizer.apply([tf.ones(1)], [variable])
    np.testing.assert_array_equal(variable, [0.875])

  def test_follows_a_schedule(self):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
      [0, 1], [1.0, 0.5, 0.25]
    )
    optimizer = lc_asgd_tf.ASGD(schedule)
    variable = keras.Variable(np.zeros(1, "float32"))
    values = []
    for _ in range(4):
      values.append(float(optimizer.learning_rate))
      optimizer.apply([-tf.ones(1)], [variable])
    self.assertEqual(values, [1.0, 0.5, 0.25, 0.25])
    np.testing.assert_array_equal(variable, [2.0])
    self.assertEqual(int(optimizer.iterations), 4)
    with self.assertRaises(TypeError):
      optimizer.learning_rate = 0.5


class HostedTest(AsyncTestCase):
  """What a server makes of the inner optimizer."""

  def test_new_inner_optimizer_is_equal_and_not_built(self):
    inner = keras.optimizers.AdamW(0.01, weight_decay=0.1, clipnorm=1.0)
    optimizer = lc_asgd_tf.AsyncOptimizer(inner)
    optimizer.build([keras.Variable(np.ones(2, "float32"))])
    clone = optimizer.new_inner_optimizer(num_workers=2)
    self.assertIsNot(clone, inner)
    self.assertFalse(clone.built)
    self.assertIs(type(clone), keras.optimizers.AdamW)
    self.assertEqual(clone.get_config(), inner.get_config())

  def test_new_inner_optimizer_leaves_the_loss_scale_behind(self):
    inner = keras.optimizers.SGD(1.0, loss_scale_factor=8.0)
    optimizer = lc_asgd_tf.AsyncOptimizer(inner)
    self.assertEqual(float(optimizer.scale_loss(tf.constant(2.0))), 16.0)
    clone = optimizer.new_inner_optimizer(num_workers=2)
    variable = keras.Variable(np.ones(1, "float32"))
    clone.build([variable])
    clone.apply([tf.constant([0.5])])
    np.testing.assert_array_equal(variable, [0.5])

  def test_new_inner_optimizer_decays_the_same_variables(self):
    inner = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    inner.exclude_from_weight_decay(var_names=["bias"])
    clone = lc_asgd_tf.AsyncOptimizer(inner).new_inner_optimizer(2)
    variables = [
      keras.Variable(np.ones(1, "float32"), name=name)
      for name in ("kernel", "bias")
    ]
    clone.build(variables)
    clone.apply([tf.zeros(1), tf.zeros(1)])
    np.testing.assert_allclose(variables[0], [0.95])
    np.testing.assert_array_equal(variables[1], [1.0])

  def test_new_inner_optimizer_has_a_learning_rate_of_any_kind(self):
    inner = keras.optimizers.SGD(lambda: 0.25)
    clone = lc_asgd_tf.AsyncOptimizer(inner).new_inner_optimizer(2)
    self.assertEqual(float(clone.learning_rate), 0.25)

  @parameterized.parameters(1, 3)
  def test_exempts_from_weight_decay_whoever_it_is_asked_to(self, num_workers):
    optimizer = lc_asgd_tf.LCASGD(
      0.1, weight_decay=0.5, num_workers=num_workers
    )
    kernel, bias = (
      keras.Variable(np.ones(1, "float32"), name=name)
      for name in ("kernel", "bias")
    )
    optimizer.exclude_from_weight_decay(var_list=[bias])
    optimizer.build([kernel, bias])
    for _ in range(2 * num_workers):
      optimizer.scale_loss(tf.constant(1.0))
      optimizer.apply([tf.zeros(1), tf.zeros(1)], [kernel, bias])
    self.assertEqual(float(bias.value[0]), 1.0)
    self.assertLess(float(kernel.value[0]), 1.0)

  def test_build_is_done_once(self):
    optimizer = lc_asgd_tf.LCASGD(0.1, momentum=0.9)
    variables = [keras.Variable(np.ones(2, "float32"), name="v")]
    optimizer.build(variables)
    state = optimizer.variables
    optimizer.build(variables)
    self.assertEqual(
      [id(variable) for variable in state],
      [id(variable) for variable in optimizer.variables],
    )
    self.assertIn(2, [variable.shape.num_elements() for variable in state])


class SavingTest(AsyncTestCase):
  @parameterized.named_parameters(
    (name, _OPTIMIZERS[name])
    for name in ("lc_asgd", "dc_asgd_c", "lc_asgd_all", "async_adamw")
  )
  def test_training_goes_on_as_if_it_had_not_been_saved(self, new):
    model, _ = _fit(new(), epochs=1)
    path = os.path.join(self.create_tempdir().full_path, "model.keras")
    model.save(path)
    restored = keras.models.load_model(path)
    self.assertIs(type(restored.optimizer), type(model.optimizer))
    self.assertEqual(
      restored.optimizer.get_config(), model.optimizer.get_config()
    )
    self.assert_same_bits(
      restored.optimizer.variables, model.optimizer.variables
    )
    self.assertEqual(int(restored.optimizer.iterations), 4)
    for trained in (model, restored):
      trained.fit(_X, _Y, batch_size=12, epochs=1, shuffle=False, verbose=0)
    self.assert_same_bits(restored.get_weights(), model.get_weights())

  def test_weights_files_hold_the_state(self):
    model, _ = _fit(lc_asgd_tf.LCASGD(0.1, momentum=0.9), epochs=1)
    path = os.path.join(self.create_tempdir().full_path, "model.weights.h5")
    model.save_weights(path)
    other = _model(seed=1)
    other.compile(optimizer=lc_asgd_tf.LCASGD(0.1, momentum=0.9), loss="mse")
    other.optimizer.build(other.trainable_variables)
    other.load_weights(path)
    self.assert_same_bits(other.get_weights(), model.get_weights())
    self.assert_same_bits(other.optimizer.variables, model.optimizer.variables)

  def test_the_state_of_another_number_of_workers_is_left_alone(self):
    model, _ = _fit(lc_asgd_tf.ASGD(0.1, num_workers=4), epochs=1)
    path = os.path.join(self.create_tempdir().full_path, "model.weights.h5")
    model.save_weights(path)
    other, _ = _fit(lc_asgd_tf.ASGD(0.1, num_workers=3), epochs=1)
    state = [variable.numpy() for variable in other.optimizer.variables]
    with self.assertWarnsRegex(UserWarning, "Skipping variable loading"):
      other.load_weights(path)
    self.assert_same_bits(other.get_weights(), model.get_weights())
    self.assert_same_bits(other.optimizer.variables, state)

  @parameterized.parameters(1, 3)
  def test_set_weights_sets_everything(self, num_workers):
    def new():
      return lc_asgd_tf.LCASGD(0.1, momentum=0.9, num_workers=num_workers)

    model, _ = _fit(new(), epochs=1)
    other = _model(seed=1)
    other.compile(optimizer=new(), loss="mse")
    other.optimizer.build(other.trainable_variables)
    values = [variable.numpy() for variable in model.optimizer.variables]
    other.optimizer.set_weights(values)
    self.assert_same_bits(other.optimizer.variables, values)
    with self.assertRaisesRegex(ValueError, "variables, got"):
      other.optimizer.set_weights(values[:-1])

  @parameterized.parameters(1, 3)
  def test_tensorflow_checkpoints_hold_the_state(self, num_workers):
    def new():
      return lc_asgd_tf.DCASGD(0.1, momentum=0.9, num_workers=num_workers)

    model, _ = _fit(new(), epochs=1)
    path = os.path.join(self.create_tempdir().full_path, "checkpoint")
    path = tf.train.Checkpoint(optimizer=model.optimizer).save(path)
    other = _model(seed=1)
    other.compile(optimizer=new(), loss="mse")
    other.optimizer.build(other.trainable_variables)
    restoring = tf.train.Checkpoint(optimizer=other.optimizer).restore(path)
    restoring.assert_consumed()
    self.assert_same_bits(other.optimizer.variables, model.optimizer.variables)


if __name__ == "__main__":
  absltest.main()
