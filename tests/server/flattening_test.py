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


def _train(make_optimizer, flat, steps=8):
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
  for step in range(steps):
    m = step % 2
    gradients = [
      tf.constant(random.normal(size=np.shape(value)), tf.float32)
      for value in _INITIAL
    ]
    messages = hosted.messages([gradients], tf.constant(1.0))
    replies[m] = push(workers[m], messages, replies[m])
  return hosted.shards[0]


def _slots(shard):
  """Returns the inner optimizer's state by the names of weight and slot."""
  values = {id(variable): variable.value for variable in shard.variables}
  names = {id(variable): variable.name for variable in shard._variables}
  return {
    (names.get(owner), name): value
    for (owner, name), value in shard.slots(values).items()
  }


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
    slots, expected = _slots(one), _slots(many)
    self.assertSameElements(slots, expected)
    for name, value in slots.items():
      np.testing.assert_allclose(
        value, expected[name], rtol=1e-5, atol=1e-6, err_msg=name
      )

  @parameterized.product(
    make_optimizer=(
      lambda: _optimizers.SGD(0.1, momentum=0.9),
      lambda: _optimizers.Nadam(0.01),
    ),
    flat=(True, False),
  )
  def test_state_can_be_set(self, make_optimizer, flat):
    trained = _train(make_optimizer, flat)
    fresh = _train(make_optimizer, flat, steps=0)
    values = {id(variable): variable.value for variable in trained.variables}
    own = {
      id(theirs): id(ours)
      for theirs, ours in zip(trained._variables, fresh._variables, strict=True)
    }
    fresh.assign_slots(
      {
        (own.get(owner), name): value
        for (owner, name), value in trained.slots(values).items()
      }
    )
    slots, expected = _slots(fresh), _slots(trained)
    self.assertTrue(np.any(expected["kernel", "momentum"]))
    for name, value in expected.items():
      np.testing.assert_array_equal(slots[name], value, err_msg=name)
    # What nobody knows stays as it is.
    fresh.assign_slots({})
    np.testing.assert_array_equal(
      _slots(fresh)["kernel", "momentum"], expected["kernel", "momentum"]
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

  def test_constraints_are_refused(self):
    constrained = _variables()
    constrained[1].constraint = keras.constraints.NonNeg()
    self.assertFalse(
      flattening.is_possible(
        constrained, _optimizers.SGD(0.1), compensation.Uncompensated()
      )
    )

  @parameterized.parameters(
    ([], [], True),
    ([1], [], False),
    ([0, 1], [], True),
    ([], ["^bias"], False),
    ([], ["nel", "ias"], True),
  )
  def test_all_or_none_are_exempt_from_weight_decay(self, ids, names, possible):
    variables = _variables()
    optimizer = _optimizers.AdamW(0.1)
    optimizer.exclude_from_weight_decay([variables[i] for i in ids], names)
    self.assertEqual(
      flattening.is_possible(
        variables, optimizer, compensation.Uncompensated()
      ),
      possible,
    )

  @parameterized.product(
    exempt=(
      lambda kernel, bias: dict(var_list=[bias]),
      lambda kernel, bias: dict(var_list=[kernel, bias]),
      # The server's copies are called layer_kernel and layer_bias.
      lambda kernel, bias: dict(var_names=["^kernel", "layer/bias"]),
    ),
    flat=(True, False),
  )
  def test_copies_decay_as_the_variables_do(self, exempt, flat):
    with keras.name_scope("layer"):
      variables = _variables()
    optimizers = [_optimizers.AdamW(0.1, weight_decay=0.5) for _ in range(2)]
    for optimizer in optimizers:
      optimizer.exclude_from_weight_decay(**exempt(*variables))
    hosted = server.Server(
      [variables],
      optimizers[:1],
      compensation.Uncompensated(),
      num_workers=1,
      jit_compile=False,
      flat=flat,
    )
    (shard,) = hosted.shards
    zeros = [tf.zeros_like(v.value) for v in variables]
    worker = tf.constant(0, tf.int64)
    reply = hosted.pull(worker)
    hosted.push(worker, hosted.messages([zeros], tf.constant(1.0)), reply)
    optimizers[1].apply(zeros, variables)
    for actual, expected in zip(
      shard.split([w.value for w in shard.weights]), variables, strict=True
    ):
      np.testing.assert_allclose(actual, expected, rtol=1e-6)


if __name__ == "__main__":
  absltest.main()
