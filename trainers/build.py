"""From flags to objects, and from a run to its result."""

import keras

import lc_asgd_tf
from flags.data import DataOptions
from flags.optimizer import OptimizerOptions
from flags.training import TrainingOptions
from lc_asgd_tf import compensation, datasets
from trainers import run_directory


def optimizer(options: OptimizerOptions) -> lc_asgd_tf.AsyncOptimizer:
  """Returns the optimizer that the flags describe."""
  return lc_asgd_tf.AsyncOptimizer(
    _inner_optimizer(options),
    _rule(options),
    loss_predictor=options.loss_predictor,
  )


def _rule(options: OptimizerOptions) -> compensation.Compensation:
  strength = {} if options.lambda_0 is None else {"lambda_0": options.lambda_0}
  rules = {
    "ssgd": compensation.Synchronous,
    "asgd": compensation.Uncompensated,
    "staleness_aware": compensation.StalenessAware,
    "gap_aware": compensation.GapAware,
    "dana": lambda: compensation.LookAhead(options.momentum),
    "dc_asgd_c": lambda: compensation.DelayCompensatedConstant(**strength),
    "dc_asgd": lambda: compensation.DelayCompensatedAdaptive(**strength),
    "lc_asgd": lambda: compensation.LossCompensated(horizon=options.horizon),
  }
  return rules[options.optimizer]()


def _inner_optimizer(options: OptimizerOptions) -> keras.optimizers.Optimizer:
  decay = {}
  if options.weight_decay is not None:
    decay = {"weight_decay": options.weight_decay}
  if options.inner_optimizer == "adam":
    return keras.optimizers.Adam(options.learning_rate, **decay)
  if options.inner_optimizer == "adamw":
    return keras.optimizers.AdamW(options.learning_rate, **decay)
  return keras.optimizers.SGD(
    options.learning_rate,
    # DANA has its own, one per worker.
    momentum=0.0 if options.optimizer == "dana" else options.momentum,
    nesterov=options.nesterov,
    **decay,
  )


def steps_per_epoch(
  training: TrainingOptions,
  data: DataOptions,
  dataset: datasets.ImageClassification | datasets.InMemoryClassification,
) -> int:
  """Returns how many pushes make an epoch.

  Raises:
    UserError: if the training data does not fill one batch.
  """
  steps = datasets.steps_per_epoch(dataset, data.batch_size)
  return training.steps_per_epoch or steps


def result(
  rule: str,
  trainer: lc_asgd_tf.AsyncTrainer,
  scores: dict[str, float],
  history: dict[str, list[float | None]],
) -> dict[str, object]:
  """Returns what a run is summed up as.

  Args:
    rule: its name.
    trainer: after training.
    scores: of the test data.
    history: one value per epoch and column.
  """
  pushes = history["pushes"]

  def mean(column):
    known = [
      (value, weight)
      for value, weight in zip(history[column], pushes, strict=True)
      if value is not None
    ]
    if not known:
      return None
    return sum(v * w for v, w in known) / sum(w for _, w in known)

  return {
    "optimizer": rule,
    "num_workers": trainer.num_workers,
    "num_ps": trainer.num_ps,
    "test_accuracy": run_directory.finite(scores["accuracy"]),
    "test_loss": run_directory.finite(scores["loss"]),
    "pushes": int(sum(pushes)),
    "staleness_mean": mean("staleness_mean"),
    "staleness_max": int(max(history["staleness_max"])),
    "loss_prediction_mae": mean("loss_prediction_mae"),
    "loss_persistence_mae": mean("loss_persistence_mae"),
    "step_prediction_mae": mean("step_prediction_mae"),
    "step_persistence_mae": mean("step_persistence_mae"),
  }
