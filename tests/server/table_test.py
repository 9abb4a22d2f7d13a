"""Tests for tables, of which workers pull and push rows."""

import functools
import gc
import weakref

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf import compensation, errors, server

_WIDTH = 2
# More than are updated at once, and no multiple of that.
_ROWS = 300
_SGD = functools.partial(keras.optimizers.SGD, 0.1)


def _variables():
  generator = np.random.default_rng(0)
  return [
    keras.Variable(generator.normal(size=shape).astype("float32"), name=name)
    for name, shape in (("bias", (3,)), ("table", (_ROWS, _WIDTH)))
  ]


class _Workers:
  """Two workers of a server that holds a bias and a table.

  Args:
    rule: the rule.
    inner_optimizer: returns an optimizer.
    by_rows: whether the table is one, or a variable like any other.
  """

  def __init__(self, rule, inner_optimizer=_SGD, by_rows=True):
    bias, table = _variables()
    self._by_rows = by_rows
    tables = []
    if by_rows:
      tables = [server.Table(table, inner_optimizer(), rule, 2)]
    self.server = server.Server(
      [[bias] if by_rows else [bias, table]],
      [inner_optimizer()],
      rule,
      num_workers=2,
      devices=["CPU:0"],
      tables=tables,
    )
    self._pull = tf.function(self.server.pull)
    self._push = tf.function(self.server.push)
    self._replies = {}
    self._pulled = {}

  @property
  def table(self):
    return self.server.tables[0]

  def pull(self, worker, ids):
    self._replies[worker] = self._pull(tf.constant(worker, tf.int64))
    self._look_up(worker, ids)

  def _look_up(self, worker, ids):
    if self._by_rows:
      ids = tf.constant(ids, tf.int32)
      rows = self.table.pulled(self.table.pull(ids))
      self._pulled[worker] = ids, rows

  def push(self, worker, bias, rows, loss, next_ids):
    """Pushes the gradients of the bias and of the rows pulled last."""
    gradients = [tf.constant(bias, tf.float32)]
    messages = []
    rows = tf.constant(rows, tf.float32)
    if self._by_rows:
      ids, pulled = self._pulled[worker]
      messages = [self.table.message(ids, rows, pulled)]
    else:
      gradients.append(rows)
    self._replies[worker] = self._push(
      tf.constant(worker, tf.int64),
      self.server.messages([gradients], tf.constant(loss)),
      self._replies[worker],
      messages,
    )
    self._look_up(worker, next_ids)

  def bias(self):
    return self.server.shards[0].weights[0].numpy()

  def weights(self):
    if self._by_rows:
      return self.table.weights.numpy()
    return self.server.shards[0].weights[1].numpy()

  def slots(self):
    part = self.table if self._by_rows else self.server.shards[0]
    table = part._variable if self._by_rows else part._variables[1]
    values = {
      id(v): tf.convert_to_tensor(v.value)
      for variables in self.server.variables.values()
      for v in variables
    }
    return {
      name: value.numpy()
      for (owner, name), value in part.slots(values).items()
      if owner in (None, id(table))
    }


def _play(workers, steps, ids):
  """Lets two workers take turns; both know all gradients beforehand."""
  generator = np.random.default_rng(1)
  for worker in (0, 1):
    workers.pull(worker, ids)
  for step in range(steps):
    workers.push(
      step % 2,
      generator.normal(size=3),
      generator.normal(size=(len(ids), _WIDTH)),
      loss=1.0 / (step + 1),
      next_ids=ids,
    )


_INNER = {
  "momentum": functools.partial(_SGD, momentum=0.9, nesterov=True),
  "adamw": functools.partial(keras.optimizers.AdamW, 0.01, weight_decay=0.1),
  "nadam": functools.partial(keras.optimizers.Nadam, 0.01, clipvalue=0.5),
  "adagrad": functools.partial(keras.optimizers.Adagrad, 0.01),
  "schedule": lambda: keras.optimizers.SGD(
    keras.optimizers.schedules.InverseTimeDecay(0.1, 1, 1.0)
  ),
}
_RULES = {
  "asgd": compensation.Uncompensated,
  "staleness_aware": compensation.StalenessAware,
  "dc_asgd": compensation.DelayCompensatedAdaptive,
  "lc_asgd": compensation.LossCompensated,
}


class TableTest(parameterized.TestCase):
  @parameterized.parameters(
    ("asgd", "adagrad"),
    ("asgd", "nadam"),
    ("staleness_aware", "schedule"),
    ("dc_asgd", "adamw"),
    ("lc_asgd", "momentum"),
  )
  def test_rows_that_all_read_are_a_variable_like_any_other(self, rule, inner):
    by_rows = _Workers(_RULES[rule](), _INNER[inner])
    whole = _Workers(_RULES[rule](), _INNER[inner], by_rows=False)
    _play(by_rows, 6, np.arange(_ROWS))
    _play(whole, 6, np.arange(_ROWS))
    np.testing.assert_allclose(
      by_rows.weights(), whole.weights(), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
      by_rows.bias(), whole.bias(), rtol=1e-4, atol=1e-6
    )
    slots = whole.slots()
    self.assertSameElements(by_rows.slots(), slots)
    for name, value in by_rows.slots().items():
      np.testing.assert_allclose(
        value, slots[name], rtol=1e-4, atol=1e-6, err_msg=name
      )

  def test_only_the_rows_of_a_push_move(self):
    workers = _Workers(_RULES["lc_asgd"](), _INNER["adamw"])
    before = workers.weights()
    ids = [299, 0, 7]
    _play(workers, 4, ids)
    others = np.setdiff1d(np.arange(_ROWS), ids)
    np.testing.assert_array_equal(workers.weights()[others], before[others])
    self.assertTrue(np.all(workers.weights()[ids] != before[ids]))
    for name, value in workers.slots().items():
      if value.ndim:
        self.assertEqual(
          np.flatnonzero(value.any(axis=1)).tolist(), [0, 7, 299], name
        )

  def test_a_row_has_the_momentum_of_its_own_pushes(self):
    workers = _Workers(_RULES["asgd"](), functools.partial(_SGD, momentum=0.5))
    before = workers.weights()
    bias, ones = np.zeros(3), np.ones((1, _WIDTH))
    workers.pull(0, [1])
    workers.push(0, bias, ones, 1.0, next_ids=[2])
    workers.push(0, bias, ones, 1.0, next_ids=[2])
    workers.push(0, bias, ones, 1.0, next_ids=[1])
    workers.push(0, bias, ones, 1.0, next_ids=[1])
    # Twice each: 1, then 1 + 0.5.
    for row in (1, 2):
      np.testing.assert_allclose(
        workers.weights()[row], before[row] - 0.25, rtol=1e-5
      )

  def test_two_workers_of_one_row_lose_nothing(self):
    workers = _Workers(_RULES["asgd"](), lambda: keras.optimizers.SGD(1.0))
    before = workers.weights()
    for worker in (0, 1):
      workers.pull(worker, [3, 4 + worker])
    for step in range(10):
      worker = step % 2
      workers.push(
        worker, np.zeros(3), np.ones((2, 2)), 1.0, next_ids=[3, 4 + worker]
      )
    moved = np.rint(before - workers.weights())[:6, 0].tolist()
    self.assertEqual(moved, [0, 0, 0, 10, 5, 5])

  def test_a_push_of_many_chunks_is_one_update(self):
    workers = _Workers(_RULES["asgd"](), _INNER["adamw"])
    _play(workers, 3, np.arange(_ROWS))
    self.assertEqual(int(workers.table.optimizer.iterations.numpy()), 3)

  def test_a_push_of_no_row_changes_none(self):
    workers = _Workers(_RULES["lc_asgd"]())
    before = workers.weights()
    workers.pull(0, np.zeros([0], np.int32))
    workers.push(0, np.ones(3), np.zeros((0, _WIDTH)), 1.0, next_ids=[1])
    np.testing.assert_array_equal(workers.weights(), before)

  def test_the_sums_are_over_the_rows_too(self):
    workers = _Workers(_RULES["lc_asgd"]())
    before = workers.weights()
    workers.pull(0, [1, 2])
    # Finite where the bias is, and not where the rows are.
    rows = [[1.0, np.inf], [1.0, 1.0]]
    bias = workers.bias()
    workers.push(0, np.ones(3), rows, 1.0, next_ids=[1])
    np.testing.assert_array_equal(workers.weights(), before)
    np.testing.assert_array_equal(workers.bias(), bias)
    (moments,) = (
      v for v in workers.table.variables if "second_moment" in v.name
    )
    self.assertFalse(moments.numpy().any())

  @parameterized.parameters(-1, _ROWS)
  def test_a_row_that_does_not_exist_cannot_be_pulled(self, row):
    workers = _Workers(_RULES["asgd"]())
    with self.assertRaisesRegex(tf.errors.InvalidArgumentError, str(row)):
      workers.pull(0, [row])

  def test_16_bits_are_rounded_on_the_way(self):
    _, table = _variables()
    rows = server.Table(table, _SGD(), _RULES["asgd"](), 1, "bfloat16")
    sent = rows.pull(tf.constant([1, 2]))
    self.assertEqual(sent.dtype, tf.bfloat16)
    np.testing.assert_allclose(
      rows.pulled(sent), table.numpy()[1:3], rtol=2**-8
    )

  def test_messages_have_few_sizes(self):
    _, table = _variables()
    table = server.Table(table, _SGD(), _RULES["asgd"](), 1)
    sizes = []
    for count in (0, 1, 256, 257, 512, 513, 1024, 1025, 2**15, 2**15 + 1):
      rows = tf.zeros([count, _WIDTH])
      message = table.message(tf.zeros([count], tf.int32), rows, rows)
      sizes.append(message.shape[0])
    self.assertEqual(
      sizes,
      [256, 256, 256, 512, 512, 1024, 1024, 2048, 2**15, 2**16],
    )

  @parameterized.named_parameters(
    ("synchronous", compensation.Synchronous, _SGD, "Synchronous"),
    ("gap_aware", compensation.GapAware, _SGD, "GapAware"),
    ("look_ahead", compensation.LookAhead, _SGD, "LookAhead"),
    (
      "clipnorm",
      compensation.Uncompensated,
      functools.partial(_SGD, clipnorm=1.0),
      "SGD, as it is configured",
    ),
    (
      "global_clipnorm",
      compensation.Uncompensated,
      functools.partial(_SGD, global_clipnorm=1.0),
      "SGD, as it is configured",
    ),
    (
      "accumulation",
      compensation.Uncompensated,
      functools.partial(_SGD, gradient_accumulation_steps=2),
      "SGD, as it is configured",
    ),
    (
      "average",
      compensation.Uncompensated,
      functools.partial(_SGD, use_ema=True),
      "SGD, as it is configured",
    ),
    (
      "lamb",
      compensation.Uncompensated,
      keras.optimizers.Lamb,
      "Lamb, as it is configured",
    ),
  )
  def test_refuses_what_needs_all_rows(self, rule, inner, message):
    _, table = _variables()
    with self.assertRaisesRegex(errors.UserError, f"{message}.*table"):
      server.Table(table, inner(), rule(), 1)

  def test_setting_the_weights_lets_nothing_diverged_stay(self):
    workers = _Workers(compensation.DelayCompensatedAdaptive())
    workers.pull(0, [3])
    workers.push(0, [1.0] * 3, np.full((1, _WIDTH), np.nan), 1.0, [3])
    self.assertTrue(np.isnan(workers.weights()[3]).all())
    workers.table.assign(np.ones((_ROWS, _WIDTH)))
    workers.pull(0, [3])
    workers.push(0, [1.0] * 3, np.ones((1, _WIDTH)), 1.0, [3])
    np.testing.assert_allclose(workers.weights()[3], [0.9] * _WIDTH)

  def test_nothing_stays_behind(self):
    workers = _Workers(compensation.DelayCompensatedAdaptive())
    workers.pull(0, [3, 5])
    workers.push(0, [1.0] * 3, np.ones((2, _WIDTH)), 1.0, [1])
    handles = [
      weakref.ref(variable.value.handle) for variable in workers.table.variables
    ]
    self.assertNotEmpty(handles)
    del workers
    gc.collect()
    self.assertEmpty([each for each in handles if each() is not None])


if __name__ == "__main__":
  absltest.main()
