"""`fit` for asynchronous workers."""

import collections
import contextlib
import math
import operator
import time
import warnings
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from lc_asgd_tf import arguments, data_errors, errors, server
from lc_asgd_tf.parameter_server import (
  checks,
  idle_weights,
  learning,
  remote_server,
  worker_data,
  worker_metrics,
  worker_step,
)
from lc_asgd_tf.server import learning_rates

# How many steps a dispatch has by default: at first, and then as many as a
# worker does in some time, so that the coordinator is neither kept busy by
# short ones nor kept waiting by long ones.
_FIRST_STEPS_PER_DISPATCH = 16
_MAX_STEPS_PER_DISPATCH = 256
_SECONDS_PER_DISPATCH = 0.5
# The coordinator works out the logs of the progress bar no more often.
_SECONDS_BETWEEN_LOGS = 0.2
# The result of a worker that died is asked for again so often.
_SECONDS_BETWEEN_FETCHES = 0.1


class AsyncTrainer:
  """Trains a Keras model on a parameter-server cluster.

  Example:
  ```python
  strategy = tf.distribute.ParameterServerStrategy(cluster_resolver)
  model.compile(optimizer=lc_asgd_tf.LCASGD(0.1, momentum=0.9), loss=...)
  trainer = lc_asgd_tf.AsyncTrainer(model, strategy)
  history = trainer.fit(dataset_fn, epochs=10, steps_per_epoch=500)
  ```

  The model is an ordinary one, created outside of `strategy.scope()`. During
  training its weights live on the ps tasks; at the end of every epoch, and so
  for callbacks, validation and afterwards, the model holds the server's
  weights, and the optimizer the server's slots. Create it after the strategy,
  which renames the devices of the process. Of the tables of
  `lc_asgd_tf.layers.SparseEmbedding`, workers pull and push only the rows that
  their batches read. All of it but `reports` is for one thread, that of
  callbacks.

  Args:
    model: any Keras model, compiled with an `lc_asgd_tf.AsyncOptimizer`.
    strategy: a `tf.distribute.ParameterServerStrategy`; its variable
      partitioner is not used.
    steps_per_dispatch: how many steps a worker does per message from the
      coordinator. None for `steps_per_execution` if the model was compiled
      with more than 1, and otherwise about half a second's, at most 256, and
      fewer towards the end of an epoch.
    pull_dtype: `float32`, or `bfloat16` or `float16`, in which workers then
      pull the weights and compute with them, and the server remembers what
      they pulled: half the transfer and half the memory of the snapshots. The
      server's weights stay float32.

  Raises:
    TypeError: if the strategy or the optimizer is of another kind.
    ValueError: if the model is not compiled, was created before the strategy,
      overrides `train_step` or runs eagerly; if the optimizer has no single
      learning rate, or simulates workers; or if another argument is out of
      range.
  """

  def __init__(
    self,
    model: keras.Model,
    strategy: tf.distribute.ParameterServerStrategy,
    steps_per_dispatch: int | None = None,
    pull_dtype: str = "float32",
  ) -> None:
    if not isinstance(strategy, tf.distribute.ParameterServerStrategy):
      raise TypeError(
        "strategy must be a tf.distribute.ParameterServerStrategy, got "
        f"{type(strategy).__name__}."
      )
    if steps_per_dispatch is not None:
      steps_per_dispatch = arguments.check_int(
        "steps_per_dispatch", steps_per_dispatch, least=1
      )
    server.check_pull_dtype(pull_dtype)
    checks.check_model(model)
    checks.check_devices(model)
    self._pull_dtype = pull_dtype
    self.model = model
    self._strategy = strategy
    self._steps_per_dispatch = steps_per_dispatch
    self._coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    self.num_workers = _count_tasks("worker")
    self.num_ps = _count_tasks("ps")
    self._remote = None
    # Whether dispatches of a `fit` that raised may still be on their way.
    self._interrupted = False
    # Steps that one worker does in a second; None before the first epoch.
    self._speed = None
    # How many dispatches there have been.
    self._dispatched = 0

  def fit(
    self,
    x: Callable[..., tf.data.Dataset],
    *,
    epochs: int = 1,
    steps_per_epoch: int | None = None,
    verbose: str | int = "auto",
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    validation_data=None,
    class_weight: Mapping[int, float] | None = None,
    initial_epoch: int = 0,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: int | Sequence[int] = 1,
  ) -> keras.callbacks.History:
    """Trains the model, with the arguments of `keras.Model.fit`.

    But for those that are about arrays: batches, their order and sample weights
    are the data set's own. As under any `tf.distribute` strategy, the state of
    a metric must be a sum over batches.

    Beside the metrics, the logs of every epoch have `pushes` (applied in this
    epoch), `rejected` (how many of them were not finite and counted as zero),
    `staleness_mean` and `staleness_max` (in updates), and the mean absolute
    errors of forecasts made before the report: `loss_prediction_mae` (in units
    of the loss) and `step_prediction_mae` (in updates), beside those of the
    forecasts that the loss stays at its average and a worker's staleness as it
    was, `loss_persistence_mae` and `step_persistence_mae`; NaN before there are
    any, and for rules that predict nothing.

    Args:
      x: a function that returns a batched `tf.data.Dataset` of (x, y) or (x,
        y, sample_weight). It runs on every worker, and again where one comes
        back that has been away. It may require an argument, a
        `tf.distribute.InputContext`, whose `input_pipeline_id` is the worker's
        index, an int64 tensor, and which has the number of `pushes` so far,
        another one: shuffle by them, so that every worker sees its own order,
        and not the beginning of the same one again. The data set is repeated;
        every worker's needs at least one batch, and none may read a Python
        generator.
      epochs: the epoch to stop before, counted from 0.
      steps_per_epoch: pushes of all workers together per epoch; None for the
        number of batches in one data set.
      verbose: as in Keras.
      callbacks: as in Keras. Those for batches are called per dispatch, and
        have no use for the model: it is given the server's weights at the end
        of the epoch, and the server what somebody has set until the next one
        begins, but for moving statistics, which are the workers'. When
        `stop_training` is set, workers still end the dispatch they are at.
      validation_data: as in Keras, but for generators; evaluated on the
        coordinator.
      class_weight: as in Keras.
      initial_epoch: as in Keras.
      validation_steps: as in Keras.
      validation_batch_size: as in Keras.
      validation_freq: as in Keras.

    Returns:
      A `keras.callbacks.History`.

    Raises:
      TypeError: if `x` is not a function that returns a data set.
      ValueError: if `steps_per_epoch` is needed and missing, a worker has no
        data or cannot read its files, or model, metrics or callbacks do not
        work on a cluster.

    Whatever is raised within an epoch, Ctrl-C included, the model holds what
    the last whole epoch left it with, from which the next `fit` goes on.
    """
    checks.check_model(self.model)
    epochs = arguments.check_int("epochs", epochs, least=0)
    initial_epoch = arguments.check_int("initial_epoch", initial_epoch, least=0)
    if steps_per_epoch is not None:
      steps_per_epoch = arguments.check_int(
        "steps_per_epoch", steps_per_epoch, least=1
      )
    data = self._worker_data(x, class_weight)
    if steps_per_epoch is None:
      if data.cardinality < 0:
        raise errors.UserError(
          "steps_per_epoch is needed: the data set does not say how long it is."
        )
      steps_per_epoch = data.cardinality
    epochs = _limit("epochs", epochs, keras.config.max_epochs())
    steps_per_epoch = _limit(
      "steps_per_epoch", steps_per_epoch, keras.config.max_steps_per_epoch()
    )
    self._check_rounds(steps_per_epoch)
    checks.check_validation_data(validation_data)
    self._end_interrupted()
    self._build(data.element_spec)
    iterator = iter(
      self._coordinator.create_per_worker_dataset(data.on_this_worker)
    )
    if not isinstance(callbacks, keras.callbacks.CallbackList):
      callbacks = keras.callbacks.CallbackList(
        callbacks,
        add_history=True,
        add_progbar=verbose != 0,
        verbose=_resolve_verbose(verbose),
        epochs=epochs,
        steps=steps_per_epoch,
        model=self.model,
      )
    checks.check_callbacks(callbacks)
    model = self.model
    model.stop_training = False
    callbacks.on_train_begin()
    # As in Keras, where `BackupAndRestore` sets it, and weights and slots.
    initial_epoch = model._initial_epoch or initial_epoch
    self._remote.load_from_model()
    logs = {}
    with learning.Learning(self._remote):
      for epoch in range(initial_epoch, epochs):
        model.reset_metrics()
        callbacks.on_epoch_begin(epoch)
        self._remote.adopt_changes()
        try:
          self._train_epoch(iterator, steps_per_epoch, callbacks)
        except BaseException as error:
          self._interrupted = True
          # What it raised matters more than a ps that is gone.
          with contextlib.suppress(tf.errors.OpError):
            self._remote.dispatches.cancel(self._dispatched)
          if problem := _problem_of_data(error):
            raise errors.UserError(problem) from error
          raise
        logs = self._metrics.logs() | self._remote.statistics().logs()
        model.optimizer.check_loss(logs.get("loss", 0.0))
        self._remote.copy_to_model()
        if validation_data is not None and model._should_eval(
          epoch, validation_freq
        ):
          logs |= self._validate(
            validation_data, validation_batch_size, validation_steps, callbacks
          )
        callbacks.on_epoch_end(epoch, logs)
        if model.stop_training:
          break
    if epochs > initial_epoch:
      model.optimizer.finalize_variable_values(model.trainable_weights)
    callbacks.on_train_end(logs)
    return model.history

  @property
  def checkpoint(self) -> tf.train.Checkpoint:
    """The server as it is now: weights, slots, ledger and predictors.

    Raises:
      RuntimeError: before `build` or the first `fit`.
    """
    remote = self._built_remote()
    if self._interrupted:
      self._end_interrupted()
    # Callbacks may have set it at the end of an epoch.
    self._update_learning_rate()
    return remote.checkpoint()

  def build(self, x: Callable[..., tf.data.Dataset]) -> None:
    """Puts the model on the ps tasks, as the first `fit` would.

    Args:
      x: as in `fit`.
    """
    self._build(self._worker_data(x).element_spec)

  def restore(self, path: str) -> None:
    """Restores the server, and the model with it, from a checkpoint.

    Args:
      path: what `save` returned.

    Raises:
      ValueError: if the checkpoint is of another model, optimizer or cluster.
      DamagedError: a `ValueError`, if it cannot be read.
      tf.errors.NotFoundError: if there is none.
    """
    remote = self._built_remote()
    self._end_interrupted()
    try:
      remote.restore(path)
    except ValueError as error:
      raise errors.UserError(
        f"The checkpoint {path} does not fit this model, optimizer and number "
        "of workers and ps tasks, or another version of lc_asgd_tf wrote it; "
        "start without it, or with the same ones."
      ) from error
    except tf.errors.DataLossError as error:
      raise errors.DamagedError(
        f"The checkpoint {path} is damaged ({error.message}): put it back as "
        "it was, or begin anew without it."
      ) from error

  def save(self, prefix: str) -> str:
    """Writes a checkpoint of the server; returns its path, for `restore`."""
    return self.checkpoint.save(prefix)

  def reports(self) -> tuple[np.ndarray, int]:
    """Returns what the workers reported, and the number of pushes.

    Returns:
      The latest reports, shape=(capacity, 7), float64, as
      `lc_asgd_tf.predictors.journal` describes them: that of push n lies in
      row n % capacity.

    Raises:
      RuntimeError: before `build` or the first `fit`.
    """
    return self._built_remote().reports()

  def _built_remote(self) -> remote_server.RemoteServer:
    if self._remote is None:
      raise RuntimeError("There is no server yet: call build or fit first.")
    return self._remote

  def _worker_data(self, x, class_weight=None) -> worker_data.WorkerData:
    return worker_data.WorkerData(
      x,
      self.num_workers,
      # By the time that a worker asks, there is a server.
      lambda: self._remote.pushes(),
      class_weight,
    )

  def _build(self, element_spec) -> None:
    """Creates the server, unless it is there for this compilation."""
    model = self.model
    inner = model.optimizer.inner_optimizer
    # Keras makes new ones of the latter two whenever it compiles.
    compiled = (
      model.optimizer,
      inner._learning_rate if learning_rates.has_schedule(inner) else None,
      model._compile_loss,
      model._compile_metrics,
    )
    if self._remote is not None and all(
      map(operator.is_, compiled, self._built_for)
    ):
      return
    model._symbolic_build(data_batch=element_spec)
    checks.check_variables(model)
    checks.check_metrics(model)
    model.reset_metrics()
    idle = []
    if idle_weights.matter(inner):
      idle = idle_weights.find(model, element_spec)
    self._remote = remote_server.RemoteServer(
      model,
      self.num_workers,
      [remote_server.ps_device(task) for task in range(self.num_ps)],
      self._pull_dtype,
      idle,
    )
    self._step = worker_step.WorkerStep(model, self._remote)
    self._step_function = tf.function(self._step.__call__, autograph=False)
    self._metrics = worker_metrics.WorkerMetrics(model, self._step)
    self._built_for = compiled

  def _check_rounds(self, steps) -> None:
    synchronous = self.model.optimizer.compensation.synchronous
    if synchronous and steps % self.num_workers:
      raise errors.UserError(
        f"steps_per_epoch={steps} is no whole number of rounds of "
        f"{self.num_workers} workers: a synchronous rule needs one."
      )

  def _end_interrupted(self) -> None:
    """Waits until nothing of an interrupted `fit` is being pushed any more."""
    if self._remote is not None:
      self._remote.dispatches.cancel(self._dispatched)
    # Whoever was interrupted knows by what: it may have been another trainer,
    # since coordinators are one per strategy.
    with contextlib.suppress(Exception):
      self._coordinator.join()
    self._interrupted = False

  def _train_epoch(self, iterator, steps, callbacks) -> None:
    """Schedules the steps of one epoch and waits for all of them."""
    self._metrics.reset()
    self._remote.reset_statistics()
    limit = self._remote.dispatches.capacity
    synchronous = self.model.optimizer.compensation.synchronous
    if synchronous:
      # A round is one step of each worker, and begins when the last one ended.
      limit = self.num_workers
    remaining = steps
    waiting = collections.deque()
    logs, logs_at = {}, 0.0
    first_result = None
    while remaining or waiting:
      # As in Keras, not before the first.
      if self.model.stop_training and first_result:
        self._remote.dispatches.cancel(self._dispatched)
        for result in waiting:
          self._metrics.add(self._fetch(result))
        break
      self._update_learning_rate()
      while remaining and len(waiting) < limit:
        now = 1 if synchronous else self._dispatch_size(remaining)
        remaining -= now
        number = self._dispatched
        self._dispatched += 1
        waiting.append(
          self._coordinator.schedule(
            self._step_function,
            args=(
              tf.constant(number, tf.int64),
              tf.constant(now, tf.int64),
              iterator,
            ),
          )
        )
      callbacks.on_train_batch_begin(self._metrics.steps)
      # Of a round all at once; otherwise each as it comes.
      for _ in range(len(waiting) if synchronous else 1):
        self._metrics.add(self._fetch(waiting.popleft()))
      # What came before it includes compilation.
      first_result = first_result or (self._metrics.steps, time.monotonic())
      if synchronous:
        # A worker that was taken for dead may have pushed after another did
        # its step.
        self._remote.forget_partial_round()
      is_last = not remaining and not waiting
      if is_last or time.monotonic() - logs_at > _SECONDS_BETWEEN_LOGS:
        logs, logs_at = self._metrics.logs(), time.monotonic()
      callbacks.on_train_batch_end(self._metrics.steps - 1, logs)
    self._coordinator.join()
    # Callbacks may have set it since the last dispatch.
    self._update_learning_rate()
    if first_result and self._metrics.steps > first_result[0]:
      steps = self._metrics.steps - first_result[0]
      seconds = time.monotonic() - first_result[1]
      self._speed = steps / seconds / self.num_workers

  def _fetch(self, result: tf.distribute.coordinator.RemoteValue):
    """Waits for the result of a dispatch, whoever does it in the end."""
    while True:
      # TensorFlow calls a result ready before it is home: when its worker dies
      # in between, another one does the dispatch anew. Which error that makes
      # depends on whether the worker has been started again. It is None where
      # the dispatch has failed for good by the time that it is read.
      with contextlib.suppress(tf.errors.OpError):
        packed = result.fetch()
        if packed is not None:
          return packed
      # Raises what the coordinator does not recover from.
      if self._coordinator.done():
        return result.fetch()
      time.sleep(_SECONDS_BETWEEN_FETCHES)

  def _dispatch_size(self, remaining: int) -> int:
    """Returns how many of the remaining steps the next dispatch has."""
    if self._steps_per_dispatch is not None:
      return min(self._steps_per_dispatch, remaining)
    if self.model.steps_per_execution > 1:
      return min(self.model.steps_per_execution, remaining)
    size = _FIRST_STEPS_PER_DISPATCH
    if self._speed is not None:
      size = int(self._speed * _SECONDS_PER_DISPATCH)
    # Shorter and shorter towards the end of an epoch, so that all workers
    # finish at about the same time (Polychronopoulos and Kuck 1987).
    share = math.ceil(remaining / (2 * self.num_workers))
    return max(1, min(size, _MAX_STEPS_PER_DISPATCH, share))

  def _update_learning_rate(self) -> None:
    """Passes on what callbacks have set, unless a schedule rules.

    And what a callable returns, which nobody else can call.
    """
    inner = self.model.optimizer.inner_optimizer
    if learning_rates.has_schedule(inner):
      return
    self._remote.set_learning_rate(float(inner.learning_rate))

  def _validate(self, data, batch_size, steps, callbacks) -> dict[str, float]:
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    with data_errors.explained("the validation data"):
      logs = self.model.evaluate(
        x=x,
        y=y,
        sample_weight=sample_weight,
        batch_size=batch_size,
        steps=steps,
        callbacks=callbacks,
        return_dict=True,
      )
    return {f"val_{name}": value for name, value in logs.items()}


def _count_tasks(job: str) -> int:
  """Returns how many tasks of a job the strategy has connected to."""
  parse = tf.DeviceSpec.from_string
  devices = [parse(device.name) for device in tf.config.list_logical_devices()]
  return len({device.task for device in devices if device.job == job})


def _problem_of_data(error: BaseException) -> str | None:
  """Returns one line, if it is a worker's data that raised the error."""
  # It has another one around it where the data set could not even be made.
  error = getattr(error, "original_exception", error)
  if isinstance(error, tf.errors.OutOfRangeError):
    return (
      "The data set of a worker has no batch: return one with at least one for "
      "each of them."
    )
  if reason := data_errors.reason(error):
    return (
      f"A worker cannot read its data ({reason}): the same files must lie at "
      "the same path on every worker."
    )
  return None


def _limit(name: str, value: int, limit: int | None) -> int:
  """Returns the value, or what the user wants no run to exceed, as Keras."""
  if not limit or value <= limit:
    return value
  warnings.warn(f"Limiting {name} to {limit}", stacklevel=3)
  return limit


def _resolve_verbose(verbose: str | int) -> int:
  """Keras's own rule: a bar, unless logging is not interactive."""
  if verbose != "auto":
    return verbose
  return 1 if keras.config.is_interactive_logging_enabled() else 2
