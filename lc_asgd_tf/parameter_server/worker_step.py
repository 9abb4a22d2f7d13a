"""What a worker does: pull, compute, push, several times per dispatch."""

import keras
import tensorflow as tf

from lc_asgd_tf import errors, layers, normalization, server
from lc_asgd_tf.parameter_server import (
  dispatch_result,
  remote_server,
  row_lookup,
)


class WorkerStep:
  """The function that the coordinator schedules on workers.

  The model is computed at the pulled snapshot, statelessly: no variable of the
  coordinator's is captured, and none lives on a worker.

  Args:
    model: built and compiled, its metrics built too.
    remote: the server.

  Attributes:
    result: how a dispatch's result is packed: the model's metric variables,
      then steps, summed staleness and largest staleness as the worker counted
      them, each int64.
  """

  def __init__(
    self, model: keras.Model, remote: remote_server.RemoteServer
  ) -> None:
    self._model = model
    self._remote = remote
    self._loss_scale = model.optimizer.inner_optimizer.loss_scale_factor
    self._buffers = remote.buffers
    self._metrics = list(model.metrics_variables)
    count = tf.TensorSpec([], tf.int64)
    self.result = server.Packing(
      [tf.TensorSpec(v.shape, v.dtype) for v in self._metrics] + [count] * 3
    )
    # The same on every worker, so that the results of all can be added up.
    self.initial_metrics = [v.numpy() for v in self._metrics]
    compute = self._compute
    if model.jit_compile is True and not remote.tables:
      compute = tf.function(compute, jit_compile=True, autograph=False)
    self._compute_compiled = compute

  def __call__(
    self, dispatch: tf.Tensor, steps: tf.Tensor, iterator
  ) -> dispatch_result.DispatchResult:
    """Does some steps on the worker on which it runs.

    Args:
      dispatch: its number, shape=(), int64; it does nothing if it has been
        cancelled in the meantime.
      steps: how many, shape=(), int64; those that another worker has done
        before it died are left out.
      iterator: over the worker's own data set.

    Returns:
      Everything in `result`, packed.
    """
    index = tf.distribute.coordinator.experimental_get_current_worker_index()
    worker = tf.cast(index, tf.int64)
    # Subtracted on the worker, whose loop would otherwise ask the ps task for
    # the difference in every step.
    steps -= self._remote.dispatches.begin(dispatch, steps, worker)
    frozen = self._remote.pull_frozen()
    handles = self._remote.snapshot_handles()

    def step(i, replies, metrics, counts, communication_seconds):
      weights, version, buffers = self._remote.open_replies(replies)
      started = _time_after(weights)
      loss, gradients, rows, contributions, metrics = self._compute_compiled(
        worker, frozen, weights, buffers, metrics, next(iterator)
      )
      computed = _time_after([loss, *gradients, *rows])
      messages = self._remote.messages(
        gradients,
        loss,
        compute_seconds=tf.cast(computed - started, tf.float32),
        communication_seconds=communication_seconds,
        pulled_at=started,
        contributions=contributions,
        worker=worker,
      )
      replies = self._remote.push(messages, rows, handles)
      _, following, _ = self._remote.open_replies(replies)
      # Not after the replies themselves: that would need a call of its own.
      communication_seconds = tf.cast(
        _time_after([following]) - computed, tf.float32
      )
      staleness = self._remote.staleness(following - 1, version)
      steps_done, total, largest = tf.unstack(counts)
      counts = tf.stack(
        [steps_done + 1, total + staleness, tf.maximum(largest, staleness)]
      )
      return i + 1, replies, metrics, counts, communication_seconds

    _, _, metrics, counts, _ = tf.while_loop(
      lambda i, *_: i < steps,
      step,
      (
        tf.zeros([], tf.int64),
        list(self._remote.pull(worker, handles)),
        [tf.constant(value) for value in self.initial_metrics],
        tf.zeros([3], tf.int64),
        tf.constant(0.0),
      ),
      # A step begins when the one before it has pushed.
      parallel_iterations=1,
    )
    return dispatch_result.DispatchResult(
      self.result.pack([*metrics, *tf.unstack(counts)])
    )

  def _compute(self, worker, frozen, weights, buffers, metrics, data):
    """Returns l, g, rows pushed, contributions to buffers, new metrics."""
    model = self._model
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    buffers = [
      normalization.worker_seed(value, worker)
      if kind is normalization.Kind.COUNTER
      else value
      for value, (kind, _) in zip(
        buffers, self._remote.buffer_kinds, strict=True
      )
    ]
    state = [
      *zip(self._remote.frozen, frozen, strict=True),
      *zip(self._remote.variables, weights, strict=True),
      *zip(self._buffers, buffers, strict=True),
      *zip(self._metrics, metrics, strict=True),
    ]
    with tf.GradientTape() as tape:
      tape.watch(weights)
      lookup = row_lookup.RowLookup(self._remote, tape)
      with (
        _WorkerScope(state, self._remote.tables) as scope,
        layers.looking_up(lookup),
      ):
        y_pred = model(x, training=True)
        # As Keras does, for models whose own knows no `training`.
        loss = model._compute_loss(
          x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True
        )
        first = next(part for part in tf.nest.flatten(x) if part is not None)
        model._loss_tracker.update_state(loss, sample_weight=tf.shape(first)[0])
        entries = model.compute_metrics(
          x, y, y_pred, sample_weight=sample_weight
        )
        _check_entries(entries, model.get_metrics_result())
      scaled = loss if self._loss_scale is None else loss * self._loss_scale
    pulled = [*weights, *lookup.rows]
    gradients = tape.gradient(scaled, pulled)
    # For Keras's error if there are none, and its warning if some are missing.
    model.optimizer._filter_empty_gradients(
      gradients, [*self._remote.variables, *lookup.tables]
    )
    gradients = [
      # Those of keras.layers.Embedding are sparse.
      tf.zeros_like(value) if g is None else tf.convert_to_tensor(g)
      for value, g in zip(pulled, gradients, strict=True)
    ]
    if self._loss_scale is not None:
      gradients = [g / self._loss_scale for g in gradients]
    scope.check_only_updates(
      [*self._buffers, *self._metrics, *model._loss_tracker.variables]
    )
    scope.check_single_updates(
      [
        variable
        for variable, (kind, _) in zip(
          self._buffers, self._remote.buffer_kinds, strict=True
        )
        if kind is normalization.Kind.MOVING_STATISTIC
      ]
    )
    contributions = [
      normalization.contribution(
        kind, momentum, pulled, _value(scope, variable, pulled)
      )
      for variable, pulled, (kind, momentum) in zip(
        self._buffers, buffers, self._remote.buffer_kinds, strict=True
      )
    ]
    metrics = [
      _value(scope, variable, value)
      for variable, value in zip(self._metrics, metrics, strict=True)
    ]
    gradients, of_rows = gradients[: len(weights)], gradients[len(weights) :]
    rows = lookup.messages(of_rows)
    return tf.cast(loss, tf.float32), gradients, rows, contributions, metrics


class _WorkerScope(normalization.CountingScope):
  """The state of a step on a worker.

  Args:
    state: pairs of variables and values.
    tables: variables of which there is no value, because workers hold none.
  """

  def __init__(self, state, tables) -> None:
    super().__init__(state, collect_losses=True)
    self._tables = {id(table): table for table in tables}

  def get_current_value(self, variable):
    table = self._tables.get(id(variable))
    if table is not None:
      raise errors.UserError(
        f"The table {table.path} is read as a whole, by a regularizer or by "
        "another layer than its own: use keras.layers.Embedding."
      )
    return super().get_current_value(variable)


def _check_entries(entries, known) -> None:
  """Refuses logs of a step that are no metrics, which cannot be summed up."""
  extra = [repr(name) for name in entries or () if name not in known]
  if extra:
    raise errors.UserError(
      f"compute_metrics returns {', '.join(extra)}, which is no metric of the "
      "model: on a cluster, track it with a keras.metrics.Mean that is an "
      "attribute of the model."
    )


def _value(scope, variable, otherwise):
  value = scope.get_current_value(variable)
  return otherwise if value is None else tf.convert_to_tensor(value)


def _time_after(tensors):
  with tf.control_dependencies(tensors):
    return tf.timestamp()
