"""Runs cells: `model.fit` with simulated workers, and what came of it."""

import gc
import math
import os
import time
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from lc_asgd_tf import (
  callbacks,
  data_errors,
  datasets,
  delays,
  errors,
  models,
  optimizers,
)
from lc_asgd_tf import compensation as compensation_lib
from lc_asgd_tf.comparison import cell as cell_lib
from lc_asgd_tf.comparison import oracle, rules
from lc_asgd_tf.optimizers import inner_optimizers
from lc_asgd_tf.predictors import forecast as forecast_lib

# About so many evaluations per run, whatever its epochs.
_EVALUATIONS = 10
# A run that is not this much better than a constant answer has failed.
_FAILED = 0.97

DELAYS = {
  "constant": delays.Constant,
  "homogeneous": delays.Homogeneous,
  "heterogeneous": delays.Heterogeneous,
  "heavy_tailed": delays.HeavyTailed,
}


def make_delays(name: str, seed: int) -> delays.Delays | None:
  """Returns the delays of this name, or those of a recorded trace.

  Raises:
    UserError: if there are no such delays.
  """
  if name == cell_lib.NO_DELAYS:
    return None
  if name in DELAYS:
    return DELAYS[name](seed=seed)
  if name.endswith(cell_lib.TRACE):
    return delays.Trace(os.path.expanduser(name))
  raise errors.UserError(
    f"delays {name!r} are neither {', '.join(DELAYS)} nor a trace (.csv)."
  )


def make_optimizer(
  cell: cell_lib.Cell, rule: rules.Rule
) -> optimizers.AsyncOptimizer:
  """Returns the optimizer of a cell.

  Raises:
    UserError: if a rule of the user's makes no compensation.
  """
  compensation = rule.compensation(cell.momentum)
  # None would be ASGD, under the name of the rule.
  if not isinstance(compensation, compensation_lib.Compensation):
    raise errors.UserError(
      f"The rule {cell.rule!r} must make an lc_asgd_tf.compensation."
      f"Compensation, got {compensation!r}."
    )
  inner = inner_optimizers.create(
    cell.inner_optimizer,
    cell.learning_rate,
    momentum=0.0 if rule.has_momentum else cell.momentum,
  )
  return optimizers.AsyncOptimizer(
    inner,
    compensation,
    loss_predictor=rule.loss_predictor,
    num_workers=cell.num_workers,
    delays=make_delays(cell.delays, cell.seed),
  )


def load_dataset(
  cell: cell_lib.Cell, data_dir: str | None = None
) -> datasets.ImageClassification | datasets.InMemoryClassification:
  """Returns the data of a cell.

  Args:
    cell: the cell.
    data_dir: where TFDS keeps data sets; None for its default.

  Raises:
    UserError: if there is no such data, or not enough for one batch.
  """
  dataset = datasets.load(
    cell.dataset, data_dir, cell.train_split, cell.test_split
  )
  # Raises what every process would.
  datasets.steps_per_epoch(dataset, cell.batch_size)
  return dataset


class Program:
  """One compiled train step, for all cells that share it.

  Args:
    cell: any of the cells.
    known_rules: rules by name.
    data_dir: where TFDS keeps data sets.
    judge: whether to judge the predictor, which costs a forward pass per step.

  Raises:
    UserError: if a batch is larger than the data set, or the model cannot read
      it.
  """

  def __init__(
    self,
    cell: cell_lib.Cell,
    known_rules: dict[str, rules.Rule],
    data_dir: str | None = None,
    judge: bool = False,
  ) -> None:
    self._dataset = load_dataset(cell, data_dir)
    self._steps = datasets.steps_per_epoch(self._dataset, cell.batch_size)
    self._test = self._dataset.test(256).cache()
    labels = np.concatenate([y.numpy() for _, y in self._test])
    self._constant_error = 1 - np.bincount(labels).max() / len(labels)
    rule = known_rules[cell.rule]
    self._model = self._new_model(cell)
    models.check_inputs(
      self._model, self._test.element_spec[0], self._dataset.name
    )
    self._oracle = rule.oracle or judge
    if self._oracle:
      self._model = oracle.OracleModel(self._model, decides=rule.oracle)
    self._optimizer = make_optimizer(cell, rule)
    self._model.compile(
      self._optimizer,
      keras.losses.SparseCategoricalCrossentropy(from_logits=True),
      metrics=["accuracy"],
      steps_per_execution=self._steps,
      jit_compile=_compiles(self._model),
    )
    self._optimizer.build(self._model.trainable_variables)
    self._initial = [tf.identity(v.value) for v in self._optimizer.variables]
    self._batch_norm = cell.batch_norm

  def _new_model(self, cell):
    keras.utils.set_random_seed(cell.seed)
    return models.create(
      cell.model, self._dataset.input_shape, self._dataset.num_classes
    )

  def run(self, cell: cell_lib.Cell) -> dict[str, object]:
    """Trains from scratch; returns the result."""
    began = time.monotonic()
    # Not `weights`: dropout's seeds are among the variables alone.
    for variable, new in zip(
      self._model.variables, self._new_model(cell).variables, strict=True
    ):
      variable.assign(new.value)
    self._begin(cell)
    recorder = _Recorder(self._test, max(1, cell.epochs // _EVALUATIONS))
    train = self._dataset.train(cell.batch_size, seed=cell.seed)
    self._model.fit(
      train,
      epochs=cell.epochs,
      steps_per_epoch=self._steps,
      callbacks=[*self._server_callbacks(train), recorder],
      verbose=0,
    )
    scores = self._model.evaluate(self._test, return_dict=True, verbose=0)
    error = 1 - scores["accuracy"]
    recorder.history[-1] |= _test_entries(scores)
    result = {
      "test_error": error,
      "test_loss": _number(scores["loss"]),
      "failed": bool(
        recorder.diverged
        or not math.isfinite(scores["loss"])
        or error >= _FAILED * self._constant_error > 0
      ),
      "history": recorder.history,
      "staleness": self._staleness(),
      "seconds": round(time.monotonic() - began, 2),
    }
    if self._oracle:
      result |= self._model.change_errors()
    if self._optimizer.simulation is not None:
      result |= self._step_errors()
    return result

  def _server_callbacks(self, train):
    """Returns what shows the server's state to the callbacks that follow."""
    if self._batch_norm == "plain":
      return [callbacks.PlainBatchNormalization()]
    if self._batch_norm == "precise":
      return [
        callbacks.ServerWeights(),
        callbacks.PreciseBatchNormalization(train),
      ]
    return [callbacks.ServerWeights()]

  def _begin(self, cell):
    """Puts everything back to where it was before the first push."""
    for variable, value in zip(
      self._optimizer.variables, self._initial, strict=True
    ):
      variable.assign(value)
    self._optimizer.learning_rate = cell.learning_rate
    if self._optimizer.simulation is not None:
      self._optimizer.simulation.begin(make_delays(cell.delays, cell.seed))
    if self._oracle:
      self._model.reset()

  def _step_errors(self):
    """Returns mean absolute errors of the predicted staleness, if it was."""
    logs = self._optimizer.simulation.statistics().logs()
    return {
      "step_mae": _number(logs["step_prediction_mae"]),
      "step_mae_persistence": _number(logs["step_persistence_mae"]),
    }

  def _staleness(self):
    """Returns how often each staleness occurred among the latest pushes."""
    simulation = self._optimizer.simulation
    if simulation is None:
      return {}
    rows = simulation.server.ledger.rows.numpy()
    rows = rows[: int(simulation.server.ledger.version.numpy())]
    values, counts = np.unique(rows[:, 3].astype(int), return_counts=True)
    return {str(v): int(c) for v, c in zip(values, counts, strict=True)}


class _Recorder(keras.callbacks.Callback):
  """Keeps what reports and plots need of every epoch; stops at NaN."""

  def __init__(self, test, every):
    super().__init__()
    self._test = test
    self._every = every
    self.history = []
    self.diverged = False

  def on_epoch_end(self, epoch, logs=None):
    entry = {
      name: _number(logs[name])
      for name in ("loss", "virtual_time", "pushes", "staleness_mean")
      if name in logs
    }
    # Keras's own optimizer, with one worker, counts no pushes.
    entry.setdefault("pushes", self.params["steps"])
    simulation = self.model.optimizer.simulation
    if simulation is not None:
      ledger = simulation.server.ledger
      line = forecast_lib.Forecast(*tf.unstack(ledger.loss_forecast.value))
      now = ledger.version.value
      if bool(forecast_lib.is_ready(line)):
        entry["predicted_loss"] = _number(
          forecast_lib.predicted_loss(line, now, now)
        )
      if ledger.signals is not None:
        # Of LC-ASGD: log T, average promise, loss and change.
        entry["signals"] = [_number(v) for v in ledger.signals.numpy()[:4]]
    self.diverged = not math.isfinite(logs["loss"])
    last = epoch + 1 == self.params["epochs"]
    if not (last or self.diverged) and (epoch + 1) % self._every == 0:
      scores = self.model.evaluate(self._test, return_dict=True, verbose=0)
      entry |= _test_entries(scores)
    self.history.append(entry)
    if self.diverged:
      self.model.stop_training = True


def run_cells(
  cells: Sequence[cell_lib.Cell],
  data_dir: str | None = None,
  judge: bool = False,
) -> Iterator[tuple[cell_lib.Cell, dict[str, object]]]:
  """Runs cells that share a program; yields each with its result.

  Args:
    cells: of the same `Cell.program`.
    data_dir: where TFDS keeps data sets; None for its default.
    judge: whether to judge the predictor, which costs a forward pass per step.

  Raises:
    UserError: if the data cannot be read, or as `Program`.
  """
  with data_errors.explained(f"the data set {cells[0].dataset}"):
    program = Program(cells[0], rules.known(), data_dir, judge)
    for cell in cells:
      yield cell, program.run(cell)
  # What was compiled and cached for these cells is of no use to others.
  keras.utils.clear_session()
  gc.collect()


def _compiles(model: keras.Model) -> bool:
  """Whether XLA helps: on CPU, it slows convolutions down."""
  if tf.config.list_physical_devices("GPU"):
    return True
  return not any(
    isinstance(layer, keras.layers.Conv2D) for layer in model._flatten_layers()
  )


def _test_entries(scores) -> dict[str, float | None]:
  return {
    "test_error": _number(1 - scores["accuracy"]),
    "test_loss": _number(scores["loss"]),
  }


def _number(value) -> float | None:
  value = float(value)
  return value if math.isfinite(value) else None
