"""From flags to objects, and from a run to its result."""

import keras
import tensorflow as tf

import lc_asgd_tf
from flags.data import DataOptions
from flags.optimizer import OptimizerOptions
from flags.training import TrainingOptions
from lc_asgd_tf import compensation, datasets, errors
from lc_asgd_tf.optimizers import inner_optimizers
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
  arguments = {
    "dana": {"momentum": options.momentum},
    "dc_asgd_c": strength,
    "dc_asgd": strength,
    "lc_asgd": {"horizon": options.horizon},
  }
  rule = compensation.RULES[options.optimizer]
  return rule(**arguments.get(options.optimizer, {}))


def _inner_optimizer(options: OptimizerOptions) -> keras.optimizers.Optimizer:
  decay = {}
  if options.weight_decay is not None:
    decay = {"weight_decay": options.weight_decay}
  return inner_optimizers.create(
    options.inner_optimizer,
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
  multiple: int = 1,
) -> int:
  """Returns how many pushes make an epoch.

  Args:
    training: what the user asked for.
    data: likewise.
    dataset: the data.
    multiple: what a number that the user did not ask for is a multiple of: a
      synchronous rule needs whole rounds.

  Raises:
    UserError: if the training data does not fill one batch.
  """
  steps = datasets.steps_per_epoch(dataset, data.batch_size)
  return training.steps_per_epoch or max(1, steps // multiple) * multiple


def check_augmentation(
  data: DataOptions,
  dataset: datasets.ImageClassification | datasets.InMemoryClassification,
) -> None:
  """Raises a UserError where there are no images to augment."""
  if data.augment and len(dataset.input_shape) != 3:
    raise errors.UserError(
      f"--augment: data set {dataset.name!r} has no images to augment."
    )


def order_seed(seed: int, pushes: int | tf.Tensor) -> int | tf.Tensor:
  """Returns the seed of the orders in which workers read from here on.

  A worker that comes back, and a run that is continued, read in another order:
  they would see the beginning of the same one again, and never some of the
  rest.

  Args:
    seed: the run's, in [0, 2^31).
    pushes: how many there have been, less than 2^32.
  """
  return seed + pushes * 2**31


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
