"""Less momentum, and steps that are as much longer."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf.server import momenta

_STEPS = 400


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
      with momenta.reduced(optimizer, lambda _: momentum):
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
      with momenta.reduced(optimizer, lambda _: 0.5):
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


if __name__ == "__main__":
  absltest.main()
