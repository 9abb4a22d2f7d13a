"""Asynchronous training on one device, inside Keras's own train step."""

import warnings
from collections.abc import Sequence

import keras
import tensorflow as tf

from lc_asgd_tf import delays as delays_lib
from lc_asgd_tf import errors, predictors, server
from lc_asgd_tf.optimizers import simulated_workers, worker_buffers


class Simulation:
  """A server and simulated workers, which take turns in the model.

  Args:
    optimizer: an `AsyncOptimizer`.
    variables: the model's; their values become w.

  Attributes:
    server: the server; its inner optimizer is the optimizer's own.
    workers: the snapshots and the virtual clock.
  """

  def __init__(self, optimizer, variables: Sequence[keras.Variable]) -> None:
    self._optimizer = optimizer
    self._variables = list(variables)
    for variable in self._variables:
      if not isinstance(variable, keras.Variable):
        raise errors.UserError(
          f"Simulated workers train a keras.Variable, got {variable!r}."
        )
      # As a strategy makes them that copies a variable to each device.
      if hasattr(variable.value, "values"):
        raise errors.UserError(
          "Simulated workers take turns on one device: create the model "
          "outside the scope of a distribution strategy, or set num_workers=1."
        )
    inner = optimizer.inner_optimizer
    if inner.built:
      raise errors.UserError(
        f"The inner optimizer, {type(inner).__name__}, is built for variables "
        "of its own: pass a new one, as from_config(get_config()) makes it."
      )
    rule = optimizer.compensation
    # In between, forecasts move along (see `forecast`): learning at every push
    # would cost most of the step.
    self._pushes_per_lesson = max(1, optimizer.num_workers // 4)
    loss_predictor = step_predictor = None
    if rule.uses_prediction:
      loss_predictor = optimizer.loss_predictor.copy()
      loss_predictor.batch_size = self._pushes_per_lesson
      if rule.horizon == "predicted":
        step_predictor = predictors.StepPredictor(
          batch_size=self._pushes_per_lesson
        )
    self._learns = loss_predictor is not None
    self._buffers = None
    # Whether a train step has been traced.
    self._has_stepped = False
    # The weights that were last shown as the server's, and when: at which
    # version, as long as nobody has pushed since. None before.
    self._shown = self._shown_at = None
    # Variables that Keras creates while it traces have no value until it is
    # done; the first push finds it in the model.
    self._adopts_at_first_push = not all(
      variable.value.is_initialized() for variable in self._variables
    )
    inner.gradient_accumulation_steps = optimizer.accumulation_steps(
      optimizer.num_workers
    )
    self.server = server.Server(
      [self._variables],
      [inner],
      rule,
      optimizer.num_workers,
      loss_predictor=loss_predictor,
      step_predictor=step_predictor,
      # Nobody else pushes; the train step is compiled, or not, as a whole.
      jit_compile=False,
    )
    # Eager training would compile it in every lesson.
    self._compiled_learn = tf.function(
      self.server.learn, jit_compile=True, autograph=False
    )
    self._packing = self.server.shards[0].packing
    self.workers = simulated_workers.SimulatedWorkers(
      self.server.shards[0].pull(),
      optimizer.num_workers,
      optimizer.delays or delays_lib.Homogeneous(seed=optimizer.seed),
      rule.synchronous,
    )

  @property
  def variables(self) -> list[keras.Variable]:
    """All state, in a fixed order."""
    state = [v for part in self.server.variables.values() for v in part]
    return state + self.workers.variables

  @property
  def carries_buffers(self) -> bool:
    """Whether workers have variables of their own beside snapshots."""
    return self._buffers is not None

  def carry_buffers(self, variables: Sequence[keras.Variable]) -> None:
    """Gives each worker its own values of some non-trainable variables.

    Must be called before the train step is traced.

    Raises:
      UserError: if it is too late.
    """
    if self._has_stepped:
      raise errors.UserError(
        "Workers have shared the moving statistics so far: give fit "
        "PlainBatchNormalization from the first call on, or compile the model "
        "with a new optimizer."
      )
    self._buffers = worker_buffers.WorkerBuffers(
      variables, self._optimizer.num_workers
    )

  def step(
    self,
    gradients: Sequence[tf.Tensor | None],
    variables: Sequence[keras.Variable] | None,
  ) -> None:
    """Pushes for the worker whose turn it is, and loads the next one."""
    self._has_stepped = True
    if not self._optimizer.shows_server_weights:
      warnings.warn(
        "During training the model holds the snapshot of one simulated worker: "
        "validation and checkpoints see that, and weights that are set between "
        "two calls of fit are not taken over, unless fit gets "
        "callbacks=[lc_asgd_tf.callbacks.ServerWeights()].",
        stacklevel=2,
      )
    gradients = self._in_order(gradients, variables)
    self.server.shards[0].idle = [
      i for i, g in enumerate(gradients) if g is None
    ]
    gradients = [
      tf.zeros(v.shape, v.dtype) if g is None else tf.convert_to_tensor(g)
      for v, g in zip(self._variables, gradients, strict=True)
    ]
    loss = self._take_loss()
    if self._adopts_at_first_push:
      tf.cond(self.server.ledger.version.value == 0, self._adopt, lambda: None)
    worker = tf.convert_to_tensor(self.workers.turn.value)
    snapshot = self._held()
    messages = self.server.messages([gradients], loss)
    replies = self.server.push(worker, messages, [snapshot])
    if self._learns:
      self._learn()
    if self._buffers is not None:
      self._buffers.keep(worker)
    weights, woken = self.workers.advance(replies[0][: self._packing.size])
    if woken is not None:
      self.server.ledger.pull_together(woken)
    self._load(weights)
    if self._buffers is not None:
      self._buffers.load(tf.convert_to_tensor(self.workers.turn.value))

  def _learn(self) -> None:
    """Trains the predictors, whenever so many pushes are new."""
    version = tf.convert_to_tensor(self.server.ledger.version.value)
    pushes = self._pushes_per_lesson
    learn = self._compiled_learn
    if pushes == 1:
      learn(version - 1)
      return
    tf.cond(
      version % pushes == 0, lambda: learn(version - pushes), lambda: version
    )

  def begin(self, delays: delays_lib.Delays) -> None:
    """Starts virtual time anew: all workers pull what the model holds.

    The rest of the state, if it is to be as before the first push, is for the
    caller to restore: slots, predictors and books are `variables`.
    """
    self.workers.begin(delays)
    self._adopt()
    if self._buffers is not None:
      self._buffers.begin()

  def statistics(self) -> server.Statistics:
    """Returns the statistics so far."""
    return server.Statistics(*self.server.ledger.statistics.numpy())

  def logs(self, since: server.Statistics | None = None) -> dict[str, float]:
    """Returns what an epoch's logs say of it, and virtual time.

    Args:
      since: the statistics when the epoch began; None for all training.
    """
    now = self.statistics()
    if since is not None:
      largest = now.staleness_max
      now = server.Statistics(*(b - a for a, b in zip(since, now, strict=True)))
      now = now._replace(staleness_max=largest)
    return now.logs() | {"virtual_time": float(self.workers.time)}

  def show_server_weights(self) -> None:
    """Makes the model hold w, until `show_snapshot`."""
    self.adopt_changes()
    self._show()

  def _show(self) -> None:
    self._shown = self.server.shards[0].current()
    self._shown_at = self._version()
    self._load(self._shown)
    if self._buffers is not None:
      self._buffers.load_latest()

  def show_snapshot(self) -> None:
    """Makes the model hold the snapshot of the worker whose turn it is."""
    self.adopt_changes()
    self._load(self.workers.snapshot())
    if self._buffers is not None:
      self._buffers.load(tf.convert_to_tensor(self.workers.turn.value))

  def holds_snapshot(self) -> bool:
    """Returns whether the model holds that of the worker whose turn it is."""
    return _same_bits(self._held(), self.workers.snapshot())

  def adopt_changes(self) -> None:
    """Makes weights that somebody has set in the model everybody's.

    It held w, a snapshot, or w as it was shown, if nobody has pushed since
    (`keras.callbacks.SwapEMAWeights` changes w on the server).
    """
    held = self._held()
    ours = [self.server.shards[0].current(), self.workers.snapshot()]
    if self._shown_at == self._version():
      ours.append(self._shown)
    if not any(_same_bits(held, known) for known in ours):
      self._adopt()

  def _version(self) -> int:
    return int(self.server.ledger.version.numpy())

  def _held(self) -> tf.Tensor:
    return self._packing.pack([v.value for v in self._variables])

  def _adopt(self) -> None:
    """Makes what the model holds w, and everybody's snapshot."""
    shard = self.server.shards[0]
    shard.assign([variable.value for variable in self._variables])
    self.workers.keep_for_all(shard.pull())
    everyone = tf.fill([self._optimizer.num_workers], True)
    self.server.ledger.pull_together(everyone)

  def finalize(self, variables: Sequence[keras.Variable]) -> None:
    """Makes the model hold w, and the worker whose turn it is pull it."""
    del variables
    shard = self.server.shards[0]
    if self._optimizer.shows_server_weights:
      self.adopt_changes()
    shard.optimizer.finalize_variable_values(shard.weights)
    self.server.ledger.pull(tf.convert_to_tensor(self.workers.turn.value))
    self.workers.keep(shard.pull())
    self._show()

  def _load(self, packed: tf.Tensor) -> None:
    for variable, value in zip(
      self._variables, self._packing.unpack(packed), strict=True
    ):
      variable.assign(value)

  def _in_order(self, gradients, variables):
    """Returns gradients in the order of `build`."""
    index = self._optimizer._get_variable_index
    variables = self._variables if variables is None else list(variables)
    self._optimizer._check_variables_are_known(variables)
    # For Keras's error if there are no gradients, and its warning if some are
    # missing.
    self._optimizer._filter_empty_gradients(gradients, variables)
    known = {index(v): g for v, g in zip(variables, gradients, strict=True)}
    if len(known) != len(self._variables):
      raise errors.UserError(
        f"The optimizer was built with {len(self._variables)} variables and "
        f"got the gradients of {len(known)}, but simulated workers always "
        "train all of them: after freezing layers compile the model with a new "
        "optimizer, as from_config(get_config()) makes it."
      )
    scale = self._optimizer.inner_optimizer.loss_scale_factor
    if scale is not None:
      raise errors.UserError(
        "loss_scale_factor does not work with simulated workers: set "
        "num_workers=1, or leave it out."
      )
    return [known[i] for i in range(len(self._variables))]

  def _take_loss(self):
    loss, self._optimizer._loss = self._optimizer._loss, None
    if loss is not None:
      return tf.cast(loss, tf.float32)
    if self._learns:
      raise ValueError(
        f"{type(self._optimizer).__name__} needs the loss: call "
        "optimizer.scale_loss(loss) between forward and backward, as "
        "keras.Model.fit does, but for mixed_float16: use mixed_bfloat16 then, "
        "or compile with auto_scale_loss=False."
      )
    return tf.constant(float("nan"))


def _same_bits(one: tf.Tensor, other: tf.Tensor) -> bool:
  """Returns whether packed vectors are equal, whatever they are made of."""
  # What travels bit by bit may look like a NaN.
  return bool(
    tf.reduce_all(tf.bitcast(one, tf.int32) == tf.bitcast(other, tf.int32))
  )
