"""Refuses what does not work on a cluster, in one line each."""

from collections.abc import Iterator

import keras
import tensorflow as tf

from lc_asgd_tf import errors, optimizers
from lc_asgd_tf.server import learning_rates


def check_model(model: keras.Model) -> None:
  """Refuses models that are not compiled, or not for this.

  Raises:
    TypeError: if the optimizer is of another kind.
    UserError: if anything else is the matter.
  """
  if not model.compiled:
    raise errors.UserError(
      "The model is not compiled: call model.compile(optimizer=..., loss=...) "
      "before training."
    )
  if isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
    raise TypeError(
      "The optimizer is wrapped in a LossScaleOptimizer, whose scale the "
      "workers cannot share: compile with auto_scale_loss=False, and set "
      "loss_scale_factor on the inner optimizer if you need one."
    )
  if not isinstance(model.optimizer, optimizers.AsyncOptimizer):
    raise TypeError(
      "The optimizer must be an lc_asgd_tf.AsyncOptimizer such as LCASGD, got "
      f"{type(model.optimizer).__name__}: wrap it as "
      "AsyncOptimizer(optimizer, compensation)."
    )
  inner = model.optimizer.inner_optimizer
  if learning_rates.owners(inner) != [inner]:
    raise errors.UserError(
      f"{type(inner).__name__} has several learning rates, which cannot be "
      "passed on to a cluster: use an optimizer that has one."
    )
  if model.optimizer.num_workers > 1:
    raise errors.UserError(
      f"The optimizer simulates num_workers={model.optimizer.num_workers}, "
      "which is for keras.Model.fit; a cluster has workers of its own: leave "
      "num_workers out."
    )
  if model.run_eagerly:
    raise errors.UserError(
      "Workers run compiled functions: run_eagerly=True has no meaning on a "
      "cluster. Leave it out, or train with keras.Model.fit to debug."
    )
  if type(model).train_step is not keras.Model.train_step:
    raise errors.UserError(
      f"{type(model).__name__} overrides train_step, which cannot run at a "
      "snapshot; override compute_loss or compute_metrics instead."
    )


def check_variables(model: keras.Model) -> None:
  """Refuses what the optimizer has no slots for, as Keras does, or nothing."""
  if not model.trainable_variables:
    raise errors.UserError(
      "The model does not have any trainable weights, which leaves workers "
      "nothing to do: make some trainable, or use keras.Model.evaluate."
    )
  inner = model.optimizer.inner_optimizer
  known = {id(variable) for variable in inner._trainable_variables}
  for variable in model.trainable_variables:
    if inner.built and id(variable) not in known:
      raise errors.UserError(
        f"The optimizer was built without {variable.path}, which was not "
        "trained then: compile the model with a new optimizer."
      )


def check_metrics(model: keras.Model) -> None:
  """Refuses metrics without state so far, or whose state is no sum."""
  for metric in model.metrics:
    if not metric.variables and metric is not model._compile_metrics:
      raise errors.UserError(
        f"Metric {metric.name!r} creates its variables when it is updated, "
        "which is too late: pass it to compile(metrics=...), or update it once "
        "before."
      )
  for variable in model.metrics_variables:
    if variable.aggregation not in ("sum", "none"):
      raise errors.UserError(
        f"{variable.path} of a metric has aggregation="
        f"{variable.aggregation!r}, and what workers have seen can only be "
        "added up: leave the metric to keras.Model.evaluate."
      )


def check_validation_data(data) -> None:
  """Refuses what can be read only once."""
  if isinstance(data, Iterator):
    raise errors.UserError(
      f"validation_data is a {type(data).__name__}, which would have other "
      "batches for every epoch, or none: pass arrays, a tf.data.Dataset or a "
      "keras.utils.PyDataset."
    )


def check_callbacks(callbacks: keras.callbacks.CallbackList) -> None:
  """Refuses what would save, between epochs, the weights of the last one."""
  saves = keras.callbacks.ModelCheckpoint, keras.callbacks.BackupAndRestore
  for callback in callbacks.callbacks:
    if isinstance(callback, saves) and callback.save_freq not in (
      "epoch",
      False,
    ):
      raise errors.UserError(
        f"{type(callback).__name__}(save_freq={callback.save_freq}) saves "
        "within an epoch, when the model has not got the server's weights: use "
        "save_freq='epoch', and shorter epochs (steps_per_epoch)."
      )


def check_devices(model: keras.Model) -> None:
  """Refuses a model whose variables lie on devices of the past."""
  known = {device.name for device in tf.config.list_logical_devices()}
  for owner, variables in (
    ("model", model.variables),
    ("optimizer", model.optimizer.inner_optimizer.variables),
  ):
    if any(variable.value.device not in known for variable in variables):
      raise errors.UserError(
        f"The {owner} was created before the ParameterServerStrategy, which "
        "has since renamed the device that its variables lie on: create the "
        "strategy first, then model and optimizer."
      )
