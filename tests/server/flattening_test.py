import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf import compensation, server
from lc_asgd_tf.server import flattening

_INITIAL = ([[1.0, -2.0], [0.5, 0.25]], [3.0, -1.0, 2.0])
_optimizers = keras.optimizers


def _variables(**kwargs):
  return [
    keras.Variable(np.float32(value), name=name, **kwargs)
    for value, name in zip(_INITIAL, ("kernel", "bias"), strict=True)
  ]


def _train(make_optimizer, flat):
  """Returns the server's only shard after some pushes of two workers."""
  hosted = server.Server(
    [_variables()],
    [make_optimizer()],
    compensation.DelayCompensatedAdaptive(),
    num_workers=2,
    jit_compile=False,
    flat=flat,
  )
  random = np.random.default_rng(0)
  workers = [tf.constant(m, tf.int64) for m in range(2)]
  replies = [hosted.pull(worker) for worker in workers]
  push = tf.function(hosted.push)
  for step in range(8):
    m = step % 2
    gradients = [
      tf.constant(random.normal(size=np.shape(value)), tf.float32)
      for value in _INITIAL
    ]
    messages = hosted.messages([gradients], tf.constant(1.0))
    replies[m] = push(workers[m], messages, replies[m])
  return hosted.shards[0]


class _PerVariable(compensation.Uncompensated):
  """Inherits `elementwise`, and is not."""

  def compensate(self, gradient, displacement, second_moment, coefficients):
    return gradient / tf.norm(gradient)


class FlatteningTest(parameterized.TestCase):
  @parameterized.parameters(
    lambda: _optimizers.SGD(0.1),
    lambda: _optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipvalue=0.5),
    lambda: _optimizers.SGD(0.1, global_clipnorm=0.5),
    lambda: _optimizers.SGD(0.1, gradient_accumulation_steps=3),
    lambda: _optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    lambda: _optimizers.Adam(0.01, amsgrad=True, weight_decay=0.1),
    lambda: _optimizers.Adam(0.01, use_ema=True),
    lambda: _optimizers.AdamW(0.01),
    lambda: _optimizers.Adadelta(0.1),
    lambda: _optimizers.Adagrad(0.1),
    lambda: _optimizers.Adamax(0.01),
    lambda: _optimizers.Nadam(0.01),
    lambda: _optimizers.Ftrl(0.1),
    lambda: _optimizers.Lion(0.01),
  )
  def test_changes_nothing(self, make_optimizer):
    one, many = (_train(make_optimizer, flat) for flat in (True, False))
    self.assertLen(one.weights, 1)
    self.assertLen(many.weights, 2)
    values = [{id(v): v.value for v in s.variables} for s in (one, many)]
    weights = one.split([values[0][id(w)] for w in one.weights])
    for actual, expected in zip(weights, many.weights, strict=True):
      np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    # Slots have the names and the shapes that they have in the model.
    slots, expected = (
      s.slots(own) for s, own in zip((one, many), values, strict=True)
    )
    self.assertSameElements(slots, expected)
    for name, value in slots.items():
      np.testing.assert_allclose(
        value, expected[name], rtol=1e-5, atol=1e-6, err_msg=name
      )

  def test_weights_can_be_set(self):
    shard = _train(lambda: _optimizers.SGD(0.1), flat=True)
    values = [tf.constant(value) for value in _INITIAL]
    shard.assign(values)
    for actual, expected in zip(
      shard.split([shard.weights[0].value]), values, strict=True
    ):
      np.testing.assert_array_equal(actual, expected)

  @parameterized.named_parameters(
    ("clipnorm", dict(inner_optimizer=_optimizers.SGD(0.1, clipnorm=1.0))),
    ("norms", dict(inner_optimizer=_optimizers.Lamb(0.1))),
    ("factors", dict(inner_optimizer=_optimizers.Adafactor(0.1))),
    ("unknown", dict(inner_optimizer=type("Own", (_optimizers.SGD,), {})(0.1))),
    ("type", dict(variables=_variables(dtype="float64"))),
    ("rule", dict(compensation=_PerVariable())),
  )
  def test_is_refused(self, change):
    arguments = {
      "variables": _variables(),
      "inner_optimizer": _optimizers.SGD(0.1),
      "compensation": compensation.Uncompensated(),
    }
    self.assertTrue(flattening.is_possible(**arguments))
    self.assertFalse(flattening.is_possible(**arguments | change))

  def test_constraints_and_exemptions_are_refused(self):
    constrained = _variables()
    constrained[1].constraint = keras.constraints.NonNeg()
    exempt = _optimizers.AdamW(0.1)
    exempt.exclude_from_weight_decay(var_names=["bias"])
    rule = compensation.Uncompensated()
    sgd = _optimizers.SGD(0.1)
    self.assertFalse(flattening.is_possible(constrained, sgd, rule))
    self.assertFalse(flattening.is_possible(_variables(), exempt, rule))


if __name__ == "__main__":
  absltest.main()
