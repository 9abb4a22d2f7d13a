"""The server on ps tasks: where things lie, and what is compiled where."""

import itertools
import threading
import zlib
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from lc_asgd_tf import (
  errors,
  layers,
  normalization,
  optimizers,
  predictors,
  server,
)
from lc_asgd_tf.parameter_server import (
  dispatches,
  packed_reader,
  placement,
  server_image,
)
from lc_asgd_tf.server import clones, snapshots


def ps_device(task: int) -> str:
  """Returns the device on which a ps task keeps its variables."""
  return f"/job:ps/replica:0/task:{task}/device:CPU:0"


class RemoteServer:
  """A `Server` whose shards lie on ps tasks.

  Every variable exists once, on its ps task; the compiled update that runs
  there holds the locks of all its variables, so that no push is lost. A push to
  several tasks is one message to each: where its worker dies in between, some
  of them may have it and others not.

  Args:
    model: built and compiled with an `AsyncOptimizer`.
    num_workers: M.
    devices: of the shards, one per ps task.
    pull_dtype: the precision in which workers pull (see `server.wire`).
    idle: trainable variables that no push is to move.

  Attributes:
    variables: the model's trainable variables that workers push as a whole.
    tables: those of which they pull rows.
    buffers: the model's non-trainable variables, but for frozen weights, which
      workers pull once per dispatch. Which ones these are is as it was here,
      whatever is frozen later: as in Keras, until it is compiled.
    frozen: those weights, and those that are idle.
    dispatches: what is left of them.
    learns: whether there are predictors, which is up to the rule.

  Raises:
    ValueError: if the optimizer clips by the global norm over several ps
      tasks, which no single task can know.
  """

  def __init__(
    self,
    model: keras.Model,
    num_workers: int,
    devices: Sequence[str],
    pull_dtype: str = "float32",
    idle: Sequence[keras.Variable] = (),
  ) -> None:
    optimizer: optimizers.AsyncOptimizer = model.optimizer
    if len(devices) > 1 and optimizer.inner_optimizer.global_clipnorm:
      raise errors.UserError(
        "global_clipnorm needs the norm over all variables, but these are "
        f"spread over {len(devices)} ps tasks; use one ps task, or clipnorm."
      )
    self._model = model
    self._optimizer = optimizer
    self._trainable = list(model.trainable_variables)
    kinds = normalization.classify(model)
    frozen = [kind is normalization.Kind.FROZEN for kind, _ in kinds]
    others = model.non_trainable_variables
    self.tables = _sparse_tables(model)
    by_rows = {id(variable) for variable in self.tables}
    idle = [variable for variable in idle if id(variable) not in by_rows]
    self.frozen = [*itertools.compress(others, frozen), *idle]
    moving = [not each for each in frozen]
    self.buffers = list(itertools.compress(others, moving))
    self.buffer_kinds = list(itertools.compress(kinds, moving))
    self._latest = [
      variable
      for variable, (kind, _) in zip(
        self.buffers, self.buffer_kinds, strict=True
      )
      if kind is normalization.Kind.LATEST
    ]
    apart = by_rows | {id(variable) for variable in idle}
    self.variables = variables = [
      v for v in self._trainable if id(v) not in apart
    ]
    # A task without variables would have nothing to do.
    num_shards = max(1, min(len(devices), len(variables)))
    sizes = [_num_bytes(v) for v in variables]
    self.placement = placement.balance(sizes, num_shards)
    loads = [sum(sizes[i] for i in part) for part in self.placement]
    loads += [0] * (len(devices) - num_shards)

    def devices_for(variables):
      """Returns a device for each, and remembers what lies there."""
      sizes = [_num_bytes(variable) for variable in variables]
      chosen = {}
      for task, part in enumerate(
        placement.balance(sizes, len(devices), loads)
      ):
        chosen |= dict.fromkeys(part, devices[task])
        loads[task] += sum(sizes[i] for i in part)
      return [chosen[i] for i in range(len(variables))]

    def new_inner_optimizer():
      return optimizer.new_inner_optimizer(num_workers)

    self.learns = optimizer.compensation.uses_prediction
    self._server = server.Server(
      placement=[[variables[i] for i in part] for part in self.placement],
      inner_optimizers=[
        _on(device, new_inner_optimizer) for device in devices[:num_shards]
      ],
      compensation=optimizer.compensation,
      num_workers=num_workers,
      devices=devices[:num_shards],
      buffers=self.buffers,
      buffer_kinds=self.buffer_kinds,
      loss_predictor=(optimizer.loss_predictor.copy() if self.learns else None),
      step_predictor=predictors.StepPredictor() if self.learns else None,
      flat=True,
      pull_dtype=pull_dtype,
      # Learning lags a second behind, in which the loss may fall a long way.
      follows=True,
      tables=[
        _on(
          device,
          lambda variable=variable: server.Table(
            variable,
            new_inner_optimizer(),
            optimizer.compensation,
            num_workers,
            pull_dtype,
          ),
        )
        for variable, device in zip(
          self.tables, devices_for(self.tables), strict=True
        )
      ],
      frozen=[
        _on(device, lambda variable=variable: clones.clone(variable))
        for variable, device in zip(
          self.frozen, devices_for(self.frozen), strict=True
        )
      ],
    )
    self._frozen = packed_reader.PackedReader(self._server.frozen)
    self._check_shared_state()
    # How many of the server's pushes make one of the model's optimizer's.
    local = optimizer.accumulation_steps(1) or 1
    hosted = optimizer.accumulation_steps(num_workers) or 1
    self._pushes_per_local = hosted // local
    with tf.device(devices[0]):
      self.dispatches = dispatches.Dispatches(self._server.ledger.pushes)
    # Empty, if the rule reads no displacement.
    self._snapshots = []
    if optimizer.compensation.uses_displacement:
      self._snapshots = [
        _on(
          device,
          lambda spec=spec: snapshots.SeparateSnapshots(
            tf.zeros(spec.shape, spec.dtype), num_workers
          ),
        )
        for device, spec in zip(
          self._server.devices, self._server.reply_specs(), strict=True
        )
      ]
    # Traced here and now, outside of the strategy's scope, in which Keras
    # optimizers would look for replicas to merge.
    worker = tf.TensorSpec([], tf.int64)
    handles = [
      tf.TensorSpec([num_workers], tf.resource) for _ in self._snapshots
    ]
    self.pull = _concrete(self._pull, worker, handles)
    self.push = _concrete(
      self._push,
      self._server.message_specs(),
      [table.message_spec for table in self._server.tables],
      handles,
    )
    number = tf.TensorSpec([], tf.int64)
    self._learn = _concrete(self._server.learn, number)
    self._learned = tf.constant(0, tf.int64)
    # Whoever reads the predictors finds none that has learned in part.
    self._learning = threading.Lock()
    # Of all shards; None where it may be any, since it is among their state.
    self._learning_rate = None
    self._reports = _concrete(self._read_reports)
    self._image = server_image.ServerImage(self._server)
    self._copy = None

  def _check_shared_state(self):
    """Refuses state of weights of which nobody can tell whose it is."""
    if len(self._server.shards) == 1:
      return
    for part in self._server.shards:
      if any(len(variable.shape) for variable in part.shared_state()):
        raise errors.UserError(
          f"{type(part.optimizer).__name__} does not name its state after the "
          "weights, which are spread over several ps tasks: use one ps task, "
          "or another optimizer."
        )

  def snapshot_handles(self) -> list[tf.Tensor]:
    """Returns what `pull` and `push` need to know of snapshots, per shard.

    It is always the same, and a loop should ask for it beforehand.
    """
    handles = []
    for k, kept in enumerate(self._snapshots):
      with tf.device(self._server.devices[k]):
        handles.append(kept.handles())
    return handles

  def _pull(self, worker, handles):
    mine = []
    for k, kept in enumerate(self._snapshots):
      with tf.device(self._server.devices[k]):
        mine.append(kept.handle(worker, handles[k]))
    return self._remember(mine, self._server.pull(worker))

  def _push(self, messages, rows, handles):
    mine = []
    pulled = [None] * len(messages)
    # Everything here follows from the message. What does not, down to a
    # constant, would need a call in every step, by which the worker's loop says
    # that there is another one.
    sender = tf.function(self._server.sender, jit_compile=True, autograph=False)
    for k, kept in enumerate(self._snapshots):
      with tf.device(self._server.devices[k]):
        mine.append(kept.handle(sender(messages[k], k), handles[k]))
        pulled[k] = kept.read(mine[k])
    replies = self._server.push(None, messages, pulled, rows)
    return self._remember(mine, replies)

  def _remember(self, handles, replies):
    """Keeps the replies as snapshots; they leave only when they are kept."""
    if not handles:
      return replies
    kept = []
    for k, device in enumerate(self._server.devices):
      with tf.device(device):
        written = self._snapshots[k].write(handles[k], replies[k])
        with tf.control_dependencies([written]):
          kept.append(tf.identity(replies[k]))
    return kept

  def messages(
    self, gradients: Sequence[tf.Tensor], *report, **named_report
  ) -> list[tf.Tensor]:
    """Packs a push; gradients in the order of `variables`.

    See `Server.messages` for the rest.
    """
    parts = [[gradients[i] for i in part] for part in self.placement]
    return self._server.messages(parts, *report, **named_report)

  def open_replies(
    self, replies: Sequence[tf.Tensor]
  ) -> tuple[list[tf.Tensor], tf.Tensor, list[tf.Tensor]]:
    """Unpacks a pull: weights in the order of `variables`, version, buffers."""
    parts, version, buffers = self._server.open_replies(replies)
    weights = [None] * sum(len(part) for part in self.placement)
    for part, indices in zip(parts, self.placement, strict=True):
      for weight, i in zip(part, indices, strict=True):
        weights[i] = weight
    return weights, version, buffers

  def pull_rows(self, k: int, ids: tf.Tensor) -> tf.Tensor:
    """Pulls rows of a table; returns w_m, shape=(n, width), float32.

    Args:
      k: which of the `tables`.
      ids: shape=(n,), int32.
    """
    table = self._server.tables[k]
    with tf.device(table.device):
      rows = table.pull(ids)
    return table.pulled(rows)

  def pull_frozen(self) -> list[tf.Tensor]:
    """Pulls what nobody pushes, in the order of `frozen`."""
    values = self._frozen.unpack(self._frozen.read())
    return [values[id(variable)] for variable in self._server.frozen]

  def row_message(self, k: int, *rows: tf.Tensor) -> tf.Tensor:
    """Packs a push of rows of a table; see `server.Table.message`."""
    return self._server.tables[k].message(*rows)

  def staleness(self, version: tf.Tensor, pulled: tf.Tensor) -> tf.Tensor:
    """Returns tau, in updates, of a push that meets `version`."""
    return self._server.ledger.staleness(version, pulled)

  def learn(self) -> None:
    """Trains the predictors on what has arrived, and publishes."""
    # All of it is there, and so is what is read: it runs beside whatever the
    # main thread does, and must be no function of two tasks (see
    # `dispatch_result`).
    with self._learning, tf.device(self._server.devices[0]):
      # A step of Adam moves weights even where nothing is new.
      if int(self._server.ledger.version.numpy()) > int(self._learned):
        self._learned = self._learn(self._learned)
        # Not on its way any more.
        int(self._learned)

  def reports(self) -> tuple[np.ndarray, int]:
    """Returns the journal's rows as they lie, and the number of pushes."""
    # Some read them on threads of their own (see `dispatch_result`).
    with tf.device(self._server.devices[0]):
      rows, version = self._reports()
    return rows.numpy(), int(version)

  def _read_reports(self):
    ledger = self._server.ledger

    def read():
      return (
        tf.convert_to_tensor(ledger.rows.value),
        tf.convert_to_tensor(ledger.version.value),
      )

    # Compiled, so that no push comes between the two.
    with tf.device(self._server.devices[0]):
      return tf.function(read, jit_compile=True, autograph=False)()

  def pushes(self) -> tf.Tensor:
    """Returns the number of pushes so far, shape=(), int64."""
    with tf.device(self._server.devices[0]):
      return tf.convert_to_tensor(self._server.ledger.version.value)

  def statistics(self) -> server.Statistics:
    """Returns the statistics since the last reset, as Python floats."""
    values = self._server.ledger.statistics.numpy()
    return server.Statistics(*(float(value) for value in values))

  def reset_statistics(self) -> None:
    """Starts new statistics."""
    with tf.device(self._server.devices[0]):
      self._server.ledger.reset_statistics()

  def set_learning_rate(self, learning_rate: float) -> None:
    """Sets the learning rate of every shard, if it is another one."""
    if learning_rate == self._learning_rate:
      return
    for part in (*self._server.shards, *self._server.tables):
      part.optimizer.learning_rate = learning_rate
    self._learning_rate = learning_rate

  def forget_partial_round(self) -> None:
    """Forgets the pushes of a round that has not ended; nobody must push."""
    self._server.forget_partial_round()

  def load_from_model(self) -> None:
    """Makes the model's weights, buffers and slots the server's."""
    self._shown = self._checksum()
    self.forget_partial_round()
    for part, indices in zip(self._server.shards, self.placement, strict=True):
      part.assign([self.variables[i].value for i in indices])
    for table, variable in zip(self._server.tables, self.tables, strict=True):
      table.assign(variable.value)
    self._server.buffers.assign([variable.value for variable in self.buffers])
    for copy, variable in zip(self._server.frozen, self.frozen, strict=True):
      copy.assign(variable.value)
    slots = {}
    for key, variable in self._keyed_local_state():
      slots[key] = tf.convert_to_tensor(variable.value)
      if variable is self._optimizer.inner_optimizer._iterations:
        slots[key] *= self._pushes_per_local
    for part in (*self._server.shards, *self._server.tables):
      part.assign_slots(slots)
    self._learning_rate = None

  def copy_to_model(self) -> None:
    """Makes the server's weights, buffers and slots the model's."""
    self._optimizer.build(self._trainable)
    state = self._image.fetch()
    if self._copy is None:
      # One call, where there are hundreds of variables to set.
      self._copy = _concrete(self._assign_to_model, state)
    self._copy(state)
    self._shown = self._checksum()

  def adopt_changes(self) -> None:
    """Takes over what was set since the model was last given its weights."""
    if self._checksum() != self._shown:
      self.load_from_model()

  def _checksum(self) -> int:
    """Returns a number that differs where the model's weights or slots do."""
    checksum = 0
    inner = self._optimizer.inner_optimizer
    # But for what validation moves: statistics that are measured for it, and
    # the seeds that it draws from; and for the learning rate, which is passed
    # on whenever it changes.
    slots = [v for v in inner.variables if v is not inner._learning_rate]
    for variable in (*self._trainable, *self.frozen, *self._latest, *slots):
      checksum = zlib.crc32(_bytes(variable), checksum)
    return checksum

  def _assign_to_model(self, state):
    values = self._image.unpack(state)
    # What belongs to no weight is the same on every shard.
    slots = {}
    for part, indices in zip(self._server.shards, self.placement, strict=True):
      weights = part.split([values[id(weight)] for weight in part.weights])
      for i, weight in zip(indices, weights, strict=True):
        self.variables[i].assign(weight)
      slots = part.slots(values) | slots
    for table, variable in zip(self._server.tables, self.tables, strict=True):
      variable.assign(values[id(table.weights)])
      slots = table.slots(values) | slots
    for key, variable in self._keyed_local_state():
      if key not in slots:
        # Of a weight that is frozen by now.
        continue
      value = slots[key]
      if variable is self._optimizer.inner_optimizer._iterations:
        value //= self._pushes_per_local
      variable.assign(value)
    for copy, variable in zip(self._server.frozen, self.frozen, strict=True):
      variable.assign(values[id(copy)])
    buffers = self._server.buffers.values(values)
    for local, value in zip(self.buffers, buffers, strict=True):
      local.assign(value)

  def _keyed_local_state(self):
    inner = self._optimizer.inner_optimizer
    return clones.keyed(inner.variables, inner._trainable_variables)

  def checkpoint(self) -> tf.train.Checkpoint:
    """Returns a checkpoint of the server as it is now."""
    with self._learning:
      return self._image.checkpoint()

  def restore(self, path: str) -> None:
    """Makes the state in a checkpoint the server's, and the model's.

    Raises:
      ValueError: if the checkpoint is of other variables; nothing is changed.
      tf.errors.NotFoundError: if there is no checkpoint.
    """
    with self._learning:
      self._image.restore(path)
      # What predictors had not learned by then, they have missed.
      self._learned = tf.identity(self._server.ledger.version.value)
    self._learning_rate = None
    self.copy_to_model()


def _sparse_tables(model: keras.Model) -> list[keras.Variable]:
  """Returns the tables of all sparse embeddings that are trained."""
  tables = {}
  for layer in model._flatten_layers():
    if isinstance(layer, layers.SparseEmbedding) and layer.trainable_variables:
      if layer.lora_enabled:
        raise errors.UserError(
          f"Layer {layer.name!r} is a SparseEmbedding whose table is frozen "
          "beside LoRA's matrices, which travel as a whole: use "
          "keras.layers.Embedding."
        )
      (table,) = layer.trainable_variables
      tables[id(table)] = table
  return list(tables.values())


def _bytes(variable: keras.Variable) -> np.ndarray:
  return np.asarray(variable.value).reshape(-1).view(np.uint8)


def _num_bytes(variable: keras.Variable) -> int:
  return variable.shape.num_elements() * variable.value.dtype.size


def _on(device, function):
  with tf.device(device):
    return function()


def _concrete(function, *specs):
  return tf.function(function, autograph=False).get_concrete_function(*specs)
