"""Tests for runs that share a compiled train step."""

import dataclasses
import functools
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import lc_asgd_tf
from lc_asgd_tf import compensation, datasets, delays, errors, models
from lc_asgd_tf.comparison import cell as cell_lib
from lc_asgd_tf.comparison import rules, trial

# 285 training examples: 17 pushes make an epoch, and 34 no round of 3 workers.
_CELL = cell_lib.Cell(
  dataset="breast_cancer",
  model="mlp",
  rule="asgd",
  num_workers=3,
  delays="heterogeneous",
  inner_optimizer="sgd",
  learning_rate=0.05,
  momentum=0.9,
  batch_size=16,
  epochs=2,
  seed=1,
)
_STEPS = 17

_OPTIMIZERS = {"dana": lc_asgd_tf.DANA, "lc_asgd": lc_asgd_tf.LCASGD}


def _with_noise(input_shape, num_classes):
  """A network whose layers have state beside their weights."""
  inputs = keras.Input(input_shape)
  x = keras.layers.Dense(8, activation="relu")(inputs)
  x = keras.layers.BatchNormalization(momentum=0.9)(x)
  x = keras.layers.Dropout(0.5)(x)
  return keras.Model(inputs, keras.layers.Dense(num_classes)(x))


def setUpModule():
  models.register("with_noise", _with_noise)


class _Runs:
  """Runs cells in one program, and keeps what there is afterwards."""

  def __init__(self, cell, **arguments):
    # Compiling takes longer than everything else here together.
    with mock.patch.object(trial, "_compiles", return_value=False):
      self._program = trial.Program(cell, rules.known(), **arguments)

  def __call__(self, cell):
    """Returns the result, and all state as a list of arrays."""
    result = self._program.run(cell)
    del result["seconds"]
    model = self._program._model
    return result, [
      *model.get_weights(),
      *(variable.numpy() for variable in model.optimizer.variables),
    ]


@functools.cache
def _first_run(rule):
  """Returns a new program, and the outcome of the cell, its first.

  The program is that of another cell, of which nothing may be left.
  """
  cell = dataclasses.replace(_CELL, rule=rule)
  runs = _Runs(
    dataclasses.replace(cell, learning_rate=0.5, seed=7, delays="constant")
  )
  return cell, runs, runs(cell)


class ProgramTest(parameterized.TestCase):
  def assert_same(self, one, other):
    """Checks that two outcomes agree to the last bit."""
    self.assertEqual(one[0], other[0])
    for a, b in zip(one[1], other[1], strict=True):
      np.testing.assert_array_equal(a, b)

  def assert_leaks_nothing(self, cell, runs, first):
    """Checks that the cell comes out as at first, after quite another one."""
    diverged, state = runs(
      dataclasses.replace(
        cell, learning_rate=1e30, seed=2, delays="heavy_tailed", epochs=1
      )
    )
    self.assertTrue(diverged["failed"])
    self.assertNotEqual(diverged["staleness"], first[0]["staleness"])
    if cell.rule != "lc_asgd":  # Which rejects what is not finite.
      self.assertFalse(np.all(np.isfinite(state[0])))
    self.assert_same(runs(cell), first)

  @parameterized.parameters(*_OPTIMIZERS)
  def test_nothing_leaks_into_the_next_run(self, rule):
    self.assert_leaks_nothing(*_first_run(rule))

  def test_layers_with_state_leak_nothing_either(self):
    """Moving statistics of each worker, dropout's seeds, unfinished rounds."""
    cell = dataclasses.replace(
      _CELL, rule="ssgd", model="with_noise", batch_norm="plain"
    )
    runs = _Runs(cell)
    self.assert_leaks_nothing(cell, runs, runs(cell))

  @parameterized.parameters(*_OPTIMIZERS)
  def test_is_what_a_user_gets(self, rule):
    """The public optimizer in plain compile and fit, to the bit."""
    cell, _, (result, state) = _first_run(rule)
    dataset = datasets.load("breast_cancer")
    keras.utils.set_random_seed(cell.seed)
    model = models.create("mlp", (30,), 2)
    model.compile(
      optimizer=_OPTIMIZERS[rule](
        0.05,
        momentum=0.9,
        num_workers=3,
        delays=delays.Heterogeneous(seed=cell.seed),
      ),
      loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
      metrics=["accuracy"],
      jit_compile=False,  # The default without a GPU.
    )
    history = model.fit(
      dataset.train(16, seed=cell.seed),
      epochs=2,
      steps_per_epoch=_STEPS,
      verbose=0,
      callbacks=[lc_asgd_tf.callbacks.ServerWeights()],
    ).history
    for value, expected in zip(model.get_weights(), state, strict=False):
      np.testing.assert_array_equal(expected, value)
    for name in ("loss", "virtual_time", "pushes", "staleness_mean"):
      self.assertEqual(
        [epoch[name] for epoch in result["history"]], history[name]
      )
    self.assertFalse(result["failed"])
    logits = model(dataset.test_inputs)
    loss = model.loss(dataset.test_labels, logits)
    self.assertAlmostEqual(result["test_loss"], float(loss), places=5)
    wrong = np.argmax(logits, axis=1) != dataset.test_labels
    self.assertAlmostEqual(result["test_error"], np.mean(wrong), places=6)

  @parameterized.parameters({"seed": 2}, {"delays": "constant"})
  def test_seed_and_delays_matter(self, **change):
    cell, runs, first = _first_run("dana")
    other = runs(dataclasses.replace(cell, **change))
    self.assertNotEqual(other[0]["test_loss"], first[0]["test_loss"])


class RecordTest(absltest.TestCase):
  def test_says_of_every_epoch_what_reports_need(self):
    cell, runs, _ = _first_run("lc_asgd")
    result, _ = runs(dataclasses.replace(cell, epochs=20))
    history = result["history"]
    measured = [
      number
      for number, epoch in enumerate(history, start=1)
      if "test_error" in epoch
    ]
    self.assertEqual(measured, list(range(2, 21, 2)))
    self.assertEqual(history[-1]["test_error"], result["test_error"])
    counts, pushes = result["staleness"], 20 * _STEPS
    self.assertEqual(sum(counts.values()), pushes)
    self.assertAlmostEqual(
      sum(int(tau) * count for tau, count in counts.items()) / pushes,
      np.mean([epoch["staleness_mean"] for epoch in history]),
    )
    for epoch in history[3:]:
      error = np.log(epoch["predicted_loss"] / epoch["loss"])
      self.assertLess(abs(error), 1.5)

  def test_a_run_fails_that_is_hardly_better_than_a_constant_answer(self):
    cell, runs, (result, _) = _first_run("dana")
    for share, failed in ((0.96, False), (0.98, True)):
      constant = result["test_error"] / share
      with mock.patch.object(runs._program, "_constant_error", constant):
        again, _ = runs(cell)
      self.assertEqual(again["failed"], failed)

  def test_measures_moving_statistics_anew_if_asked_to(self):
    errors_by = {}
    for batch_norm in ("async", "precise"):
      cell = dataclasses.replace(
        _CELL, model="with_noise", batch_norm=batch_norm, epochs=1
      )
      _, state = _Runs(cell)(cell)
      # Weights, bias, gamma, beta, moving mean.
      hidden = np.maximum(
        datasets.load("breast_cancer").train_inputs @ state[0] + state[1], 0
      )
      errors_by[batch_norm] = np.max(np.abs(hidden.mean(0) - state[4]))
    self.assertLess(10 * errors_by["precise"], errors_by["async"])


class StepErrorsTest(absltest.TestCase):
  def test_where_the_staleness_is_predicted(self):
    # `lc_asgd_ahead`, but for the LSTM, which takes long to compile.
    ahead = rules.Rule(
      lambda momentum: compensation.LossCompensated(horizon="predicted"), "holt"
    )
    cell = dataclasses.replace(_CELL, rule="ahead")
    with mock.patch.dict(rules.CONTROLS, ahead=ahead):
      result, _ = _Runs(cell)(cell)
    # 34 pushes of three workers: tau is 2, a little more or less.
    self.assertBetween(result["step_mae"], 0.05, 2.0)
    self.assertBetween(result["step_mae_persistence"], 0.05, 2.0)
    self.assertNotEqual(result["step_mae"], result["step_mae_persistence"])

  def test_where_it_is_not(self):
    _, _, (result, _) = _first_run("dana")
    self.assertIsNone(result["step_mae"])


class BadInputTest(absltest.TestCase):
  def test_a_rule_that_makes_nothing(self):
    """Which would be ASGD, under another name."""
    rule = rules.Rule(lambda momentum: None)
    with self.assertRaisesRegex(errors.UserError, "must make an lc_asgd_tf"):
      trial.make_optimizer(_CELL, rule)

  def test_data_that_cannot_be_read(self):
    with mock.patch.object(
      trial,
      "Program",
      side_effect=tf.errors.DataLossError(
        None, None, "Graph execution error:\ntruncated record at 19\n\t [[Node"
      ),
    ):
      with self.assertRaisesRegex(
        errors.UserError, "^cannot read the data set .*: truncated record at 19"
      ):
        next(trial.run_cells([_CELL]))

  def test_a_batch_larger_than_the_data_set(self):
    cell = dataclasses.replace(_CELL, batch_size=286)
    with self.assertRaisesRegex(ValueError, "batch_size=286 is more than"):
      trial.Program(cell, rules.known())

  def test_a_model_that_looks_up_measurements(self):
    cell = dataclasses.replace(
      _CELL, dataset="breast_cancer", model="characters"
    )
    with self.assertRaisesRegex(errors.UserError, "takes integers"):
      trial.Program(cell, rules.known())


if __name__ == "__main__":
  absltest.main()
