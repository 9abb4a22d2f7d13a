"""Less momentum, and steps that are as much longer."""

import contextlib
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf.server import momenta

_STEPS = 400


def _momentum(optimizer, left):
  """Of a rule that leaves so much, or what a function of beta says."""
  if not callable(left):
    return _momentum(optimizer, lambda _: left)
  rule = mock.Mock(explicit_momentum=lambda beta, num_workers: left(beta))
  return momenta.Momentum(optimizer, rule, num_workers=2)


def _run(optimizer, gradients, momentum=None):
  """Returns the weight after each step, from 1."""
  variable = keras.Variable(np.ones([], "float32"))
  optimizer.build([variable])
  weights = []
  for gradient in gradients:
    gradient = tf.constant(gradient, tf.float32)
    if momentum is None:
      optimizer.apply([gradient])
    else:
      with _momentum(optimizer, momentum).reduced():
        optimizer.apply([gradient])
    weights.append(float(variable.numpy()))
  return np.array(weights)


class ReducedTest(parameterized.TestCase):
  @parameterized.product(momentum=(0.0, 0.6), nesterov=(False, True))
  def test_a_gradient_moves_the_weights_as_far_in_all(self, momentum, nesterov):
    impulse = [1.0] + [0.0] * _STEPS

    def new(momentum=0.9, learning_rate=0.1):
      return keras.optimizers.SGD(learning_rate, momentum, nesterov)

    reduced = _run(new(), impulse, momentum)
    np.testing.assert_allclose(reduced[-1], _run(new(), impulse)[-1], atol=1e-6)
    # As an optimizer would that was made so.
    longer = new(momentum, 0.1 * (1 - momentum) / (1 - 0.9))
    np.testing.assert_allclose(reduced, _run(longer, impulse), atol=1e-6)

  @parameterized.named_parameters(
    ("schedule", keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)),
    ("whole_number", lambda: 1),
  )
  def test_takes_a_learning_rate_of_any_kind(self, learning_rate):
    def new():
      return keras.optimizers.SGD(learning_rate, momentum=0.9)

    plain = _run(new(), [1.0])
    np.testing.assert_allclose(
      _run(new(), [1.0], 0.5) - 1.0, 5 * (plain - 1.0), rtol=1e-5
    )

  @parameterized.parameters(
    # As far as it may in all, with or without momentum left,
    (0.5, 0.0, 0.5),
    (0.5, 0.6, 0.5 * 0.4),
    # no farther than it would,
    (2.0, 0.0, 1.0),
    (np.inf, 0.0, 1.0),
    # and no less far than without longer steps.
    (0.01, 0.0, 0.1),
    (0.0, 0.0, 0.1),
  )
  def test_longer_steps_have_a_bound(self, longest, left, expected):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    variable = keras.Variable(np.ones([], "float32"))
    optimizer.build([variable])
    with _momentum(optimizer, left).reduced(tf.constant(longest, tf.float32)):
      optimizer.apply([tf.constant(2.0)])
    self.assertAlmostEqual(
      float(variable.numpy()), 1 - 2 * expected, delta=1e-6
    )

  def test_reaches_the_optimizers_of_a_multi_optimizer(self):
    inner = keras.optimizers.SGD(0.1, momentum=0.9)
    several = mock.Mock(
      optimizers=[inner, keras.optimizers.Adam()],
      gradient_accumulation_steps=None,
    )
    with _momentum(several, lambda beta: beta / 3).reduced():
      self.assertAlmostEqual(inner.momentum, 0.3)
    self.assertEqual(inner.momentum, 0.9)

  def test_a_users_update_step_stays(self):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    steps = []
    optimizer.update_step = lambda g, v, lr: steps.append(float(lr))
    with _momentum(optimizer, 0.8).reduced():
      optimizer.update_step(None, keras.Variable(0.0), 1.0)
    optimizer.update_step(None, keras.Variable(0.0), 1.0)
    np.testing.assert_allclose(steps, [2.0, 1.0], rtol=1e-6)

  def test_weight_decay_and_clipping_stay_as_they_are(self):
    def new():
      return keras.optimizers.SGD(
        0.1, momentum=0.9, weight_decay=0.5, global_clipnorm=0.01
      )

    (weight,) = _run(new(), [100.0], 0.0)
    # The decay, and then the clipped gradient, ten times as far.
    np.testing.assert_allclose(weight, 1 - 0.1 * 0.5 - 1.0 * 0.01, rtol=1e-6)

  def test_it_is_over_after_the_with(self):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    expected = _run(keras.optimizers.SGD(0.1, momentum=0.9), [1.0, 2.0, 3.0])
    with self.assertRaises(ZeroDivisionError):
      with _momentum(optimizer, 0.5).reduced():
        raise ZeroDivisionError
    np.testing.assert_array_equal(_run(optimizer, [1.0, 2.0, 3.0]), expected)

  @parameterized.named_parameters(
    ("sgd_without_any", lambda: keras.optimizers.SGD(0.1)),
    ("adam", lambda: keras.optimizers.Adam(0.1)),
    ("rmsprop", lambda: keras.optimizers.RMSprop(0.1, momentum=0.9)),
    ("users", lambda: type("Own", (keras.optimizers.SGD,), {})(0.1, 0.9)),
  )
  def test_leaves_others_alone(self, new):
    gradients = [1.0, -2.0, 0.5]
    np.testing.assert_array_equal(
      _run(new(), gradients, 0.5), _run(new(), gradients)
    )


class ConvertedTest(parameterized.TestCase):
  @parameterized.product(left=(0.1, 0.8), nesterov=(False, True))
  def test_the_next_update_goes_as_far_as_it_would(self, left, nesterov):
    def new():
      return keras.optimizers.SGD(0.1, 0.9, nesterov)

    def coast(reduced, velocity):
      """Returns how far an update without a gradient goes."""
      optimizer = new()
      variable = keras.Variable(np.ones([], "float32"))
      optimizer.build([variable])
      optimizer.momentums[0].assign(velocity)
      with reduced(optimizer):
        optimizer.apply([tf.zeros([])])
      return float(variable.numpy()) - 1.0

    converted = _momentum(new(), left)
    model = tf.constant(2.0)
    server = converted.to_server("momentum", model)
    np.testing.assert_allclose(
      coast(lambda own: _momentum(own, left).reduced(), server),
      coast(lambda own: contextlib.nullcontext(), model),
      rtol=1e-5,
    )
    np.testing.assert_allclose(
      converted.to_model("momentum", server), model, rtol=1e-6
    )

  def test_without_momentum_there_is_no_velocity(self):
    momentum = _momentum(keras.optimizers.SGD(0.1, momentum=0.9), 0.0)
    for convert in (momentum.to_model, momentum.to_server):
      self.assertEqual(convert("momentum", tf.constant(3.0)), 0.0)

  def test_momentum_that_is_left_whole_changes_no_bit(self):
    momentum = _momentum(keras.optimizers.SGD(0.1, momentum=0.9), 0.9)
    for convert in (momentum.to_model, momentum.to_server):
      self.assertEqual(convert("momentum", tf.constant(0.1)), 0.1)

  def test_leaves_other_slots_and_optimizers_alone(self):
    of_adam = _momentum(keras.optimizers.Adam(), 0.0)
    of_sgd = _momentum(keras.optimizers.SGD(0.1, momentum=0.9), 0.5)
    for momentum, slot in ((of_adam, "momentum"), (of_sgd, "velocity")):
      for convert in (momentum.to_model, momentum.to_server):
        self.assertEqual(convert(slot, tf.constant(3.0)), 3.0)


if __name__ == "__main__":
  absltest.main()
