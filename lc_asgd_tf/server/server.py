"""The parameter server: pull, and push, whatever the processes around it."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from lc_asgd_tf import normalization, predictors
from lc_asgd_tf.compensation import compensation as compensation_lib
from lc_asgd_tf.compensation import xla_ops
from lc_asgd_tf.server import buffers as buffers_lib
from lc_asgd_tf.server import ledger as ledger_lib
from lc_asgd_tf.server import packing, shard, table


class Server:
  """Weights in shards, the ledger, and the predictors.

  One worker step is pull -> forward and backward at w_m -> push. A push tells
  the server the gradient and the loss; the server compensates the gradient,
  hands it to the inner optimizer, increments t, and answers with its weights,
  so that every push is also the worker's next pull.

  Messages and replies are packed vectors, one per shard:

      message to shard k   [ gradient_k | worker ]
      message to shard 0   [ gradient_0 | worker | loss, times | buffers ]
      reply of shard k     [ weights_k ]
      reply of shard 0     [ weights_0 | version | buffers ]

  Tables, of which workers pull and push rows, stand beside the shards: their
  rows are pulled from each of them when they are needed, and pushed together
  with the rest (see `table`). So do frozen weights, which nobody pushes.

  The buffers of a reply are what else the model has of non-trainable variables,
  and those of a message what the worker adds to them (see
  `lc_asgd_tf.normalization`).

  Args:
    placement: for each shard, the variables that it takes over.
    inner_optimizers: one per shard, not built.
    compensation: the rule.
    num_workers: M.
    devices: the device of each shard; the first also has the ledger, the
      buffers and the predictors. None: wherever TensorFlow puts them.
    buffers: the model's non-trainable variables, but for frozen weights.
    buffer_kinds: (kind, momentum) of each buffer.
    loss_predictor: not built; None if nothing is to be predicted.
    step_predictor: not built; None if nothing is to be predicted.
    jit_compile: whether XLA compiles the update. It must, wherever two
      workers can push at once: a compiled function holds the locks of all its
      variables from its first read to its last write.
    flat: whether shards may keep their weights as one vector.
    pull_dtype: the precision in which workers pull (see `wire`).
    tables: for the same rule, wherever they lie.
    frozen: weights that no push changes, wherever they lie.
    follows: whether every push also brings the forecast of the loss up to date,
      as far as that costs little. Otherwise it is as old as the latest `learn`.
  """

  def __init__(
    self,
    placement: Sequence[Sequence[keras.Variable]],
    inner_optimizers: Sequence[keras.optimizers.Optimizer],
    compensation: compensation_lib.Compensation,
    num_workers: int,
    devices: Sequence[str | None] = (None,),
    buffers: Sequence[keras.Variable] = (),
    buffer_kinds: Sequence[tuple[normalization.Kind, float]] = (),
    loss_predictor: predictors.LossPredictor | None = None,
    step_predictor: predictors.StepPredictor | None = None,
    jit_compile: bool = True,
    flat: bool = False,
    pull_dtype: str = "float32",
    tables: Sequence[table.Table] = (),
    frozen: Sequence[keras.Variable] = (),
    follows: bool = False,
  ) -> None:
    self.compensation = compensation
    self.tables = list(tables)
    self.frozen = list(frozen)
    self.num_workers = num_workers
    self.devices = tuple(devices)
    self._jit_compile = jit_compile
    self.shards = []
    for variables, inner, device in zip(
      placement, inner_optimizers, self.devices, strict=True
    ):
      with tf.device(device):
        self.shards.append(
          shard.Shard(
            variables,
            inner,
            compensation,
            num_workers,
            flat,
            pull_dtype,
            jit_compile,
          )
        )
    with tf.device(self.devices[0]):
      self.ledger = ledger_lib.Ledger(
        num_workers,
        compensation,
        inner_optimizers[0].gradient_accumulation_steps or 1,
      )
      self.buffers = buffers_lib.Buffers(buffers, buffer_kinds)
      self.loss_predictor = loss_predictor
      self.step_predictor = step_predictor
      self._follows = follows and loss_predictor is not None
      for predictor in (loss_predictor, step_predictor):
        if predictor is not None:
          predictor.build(num_workers)
    scalar = tf.TensorSpec([], tf.float32)
    contributions = tf.TensorSpec([self.buffers.size], packing.CARRIER)
    self._sender = packing.Packing([tf.TensorSpec([], tf.int64)])
    moment = tf.TensorSpec([], tf.float64)
    self._report = packing.Packing([scalar] * 3 + [moment, contributions])
    self._heading = packing.Packing([tf.TensorSpec([], tf.int64)])

  def message_specs(self) -> list[tf.TensorSpec]:
    """Returns the specification of a message to each shard."""
    return self._vector_specs(
      [part.packing.size + self._sender.size for part in self.shards],
      self._report.size,
    )

  def reply_specs(self) -> list[tf.TensorSpec]:
    """Returns the specification of the reply of each shard."""
    return self._vector_specs(
      [part.wire.size for part in self.shards],
      self._heading.size + self.buffers.size,
    )

  def messages(
    self,
    gradients: Sequence[Sequence[tf.Tensor]],
    loss: tf.Tensor,
    compute_seconds: tf.Tensor | float = 0.0,
    communication_seconds: tf.Tensor | float = 0.0,
    pulled_at: tf.Tensor | float = 0.0,
    contributions: Sequence[tf.Tensor] = (),
    worker: tf.Tensor | int = 0,
  ) -> list[tf.Tensor]:
    """Packs a worker's push: one message per shard.

    Args:
      gradients: for each shard, g of each of its variables.
      loss: l, shape=().
      compute_seconds: shape=().
      communication_seconds: shape=().
      pulled_at: shape=(), float64.
      contributions: one per buffer.
      worker: m, shape=(), int64, for a `push` that is not told.
    """
    tail = self._sender.pack([tf.cast(worker, tf.int64)])
    report = self._report.pack(
      [
        loss,
        compute_seconds,
        communication_seconds,
        pulled_at,
        self.buffers.pack(contributions),
      ]
    )
    tails = [[tail, report]] + [[tail]] * (len(self.shards) - 1)
    return [
      part.packing.pack(g, *rest)
      for part, g, rest in zip(self.shards, gradients, tails, strict=True)
    ]

  def sender(self, message: tf.Tensor, k: int) -> tf.Tensor:
    """Returns m, shape=(), int64, from the message to shard k."""
    size = self.shards[k].packing.size
    return self._sender.unpack(message[size:])[0]

  def open_replies(
    self, replies: Sequence[tf.Tensor]
  ) -> tuple[list[list[tf.Tensor]], tf.Tensor, list[tf.Tensor]]:
    """Unpacks replies: weights per shard, version, buffers."""
    weights = [
      part.packing.unpack(part.wire.decode(reply))
      for part, reply in zip(self.shards, replies, strict=True)
    ]
    heading = replies[0][self.shards[0].wire.size :]
    (version,) = self._heading.unpack(heading)
    buffers = self.buffers.unpack(heading[self._heading.size :])
    return weights, version, buffers

  def pull(self, worker: tf.Tensor) -> list[tf.Tensor]:
    """Notes that a worker pulls now; returns one reply per shard.

    Args:
      worker: m, shape=(), int64.
    """
    replies = []
    for k, part in enumerate(self.shards):
      with tf.device(self.devices[k]):
        if k == 0:
          replies.append(self._compiled(self._pull_first)(worker))
        else:
          replies.append(self._compiled(part.pull)())
    return replies

  def push(
    self,
    worker: tf.Tensor | None,
    messages: Sequence[tf.Tensor],
    snapshots: Sequence[tf.Tensor | None],
    rows: Sequence[tf.Tensor] = (),
  ) -> list[tf.Tensor]:
    """Applies a push; returns one reply per shard, the worker's next pull.

    With one shard the whole push is one compiled function. With several, every
    shard measures, the few sums are added up, and every shard applies. So do
    tables, in either case, for which functions of several sizes are compiled.

    Args:
      worker: m, shape=(), int64; None to read it from the messages.
      messages: one per shard.
      snapshots: w_m, packed, per shard: what the worker's last pull returned.
        None where the rule reads no displacement.
      rows: one message per table.
    """
    shares = []
    if self.compensation.measures:
      for part, message in zip(self.tables, rows, strict=True):
        with tf.device(part.device):
          shares.append(self._compiled(part.measure)(message))
    arguments = (worker, messages, snapshots, shares)
    if len(self.shards) == 1:
      with tf.device(self.devices[0]):
        replies, *verdict = self._compiled(self._push)(*arguments)
    else:
      replies, *verdict = self._push(*arguments, self._compiled)
    applied = []
    for part, message in zip(self.tables, rows, strict=True):
      with tf.device(part.device):
        applied.append(self._compiled(part.apply)(message, *verdict))
    if not applied:
      return replies
    # The worker's next rows have this push in them.
    kept = []
    for device, reply in zip(self.devices, replies, strict=True):
      with tf.device(device), tf.control_dependencies(applied):
        kept.append(tf.identity(reply))
    return kept

  def _push(
    self,
    worker,
    messages,
    snapshots,
    shares,
    compiled=lambda function: function,
  ):
    """Returns the replies, the rule's coefficients and whether it accepts."""
    displacements = [None] * len(self.shards)
    sums = None
    if self.compensation.measures:
      shares = list(shares)
      for k, part in enumerate(self.shards):
        with tf.device(self.devices[k]):
          share, displacements[k] = compiled(part.measure)(
            messages[k], snapshots[k]
          )
          shares.append(share)
      if len(self.shards) == 1 and self._jit_compile:
        # Read a second time, rather than written and read again.
        displacements = [None]
        messages, snapshots = (
          xla_ops.optimization_barrier(vectors)
          for vectors in (messages, snapshots)
        )
      with tf.device(self.devices[0]):
        sums = tf.add_n(shares)
    senders = [worker] * len(self.shards)
    if worker is None:
      senders = []
      for k, device in enumerate(self.devices):
        with tf.device(device):
          senders.append(compiled(self.sender)(messages[k], k))
    with tf.device(self.devices[0]):
      coefficients, accepted, heading = compiled(self._book)(
        senders[0], messages[0], sums
      )
      if len(self.shards) > 1:
        # For the others one tensor, where each of them would take a call.
        joined = compiled(_join)(coefficients, accepted)
    replies = []
    for k, device in enumerate(self.devices):
      with tf.device(device):
        arguments = senders[k], messages[k], snapshots[k], displacements[k]
        if k == 0:
          replies.append(
            compiled(self._apply_first)(
              heading, *arguments, coefficients, accepted
            )
          )
        else:
          judged = accepted is not None
          replies.append(
            compiled(self._apply_joined)(k, *arguments, joined, judged)
          )
    return replies, coefficients, accepted

  def forget_partial_round(self) -> None:
    """Forgets what a round of a synchronous rule has left that is not whole.

    It was interrupted, or a worker died when its push had arrived at some
    shards only. Otherwise all later rounds would be made of two each. Nobody
    must push meanwhile.
    """
    if not self.compensation.synchronous:
      return
    is_partial = self.ledger.skip_partial_round()
    if is_partial or len(self.shards) > 1:
      pushes = [part.pushes for part in self.shards]
      if is_partial or len(set(pushes)) > 1:
        for part in self.shards:
          # The first one goes with the ledger.
          part.forget_accumulated(pushes[0])

  def learn(self, first: tf.Tensor) -> tf.Tensor:
    """Trains the predictors on the reports [first, t) and publishes.

    Training reads a copy of the journal and locks nothing that a push needs for
    long; only a few numbers are handed over. One caller at a time.

    Args:
      first: shape=(), int64; what an earlier call returned.

    Returns:
      t, shape=(), int64: how far the reports have been learned.
    """
    with tf.device(self.devices[0]):
      now = tf.convert_to_tensor(self.ledger.version.value)
      # Not before it, or a push in between would be missing from the rows.
      with tf.control_dependencies([now]):
        rows = tf.convert_to_tensor(self.ledger.rows.value)
      loss, staleness = self._learn(rows, first, now)
      if loss is not None:
        self.ledger.loss_forecast.assign(loss)
      if staleness is not None:
        self.ledger.step_forecast.assign(staleness)
      return now

  def _learn(self, rows, first, now):
    loss = staleness = None
    if self.loss_predictor is not None:
      self.loss_predictor.learn(rows, first, now)
      if not self._follows:
        loss = tf.stack(self.loss_predictor.forecast(rows, now))
    if self.step_predictor is not None:
      self.step_predictor.learn(rows, first, now)
      everyone = tf.range(self.num_workers, dtype=tf.int64)
      staleness = self.step_predictor.forecast(rows, now, everyone)
    return loss, staleness

  def _pull_first(self, worker):
    version = self.ledger.pull(worker)
    return self._append(self.shards[0].pull(), self._head(version))

  def _apply_first(self, heading, *arguments):
    return self._append(self.shards[0].apply(*arguments), heading)

  def _apply_joined(
    self, k, worker, message, snapshot, displacement, joined, judged
  ):
    parts = [] if joined is None else tf.unstack(joined)
    accepted = parts.pop() > 0.0 if judged else None
    return self.shards[k].apply(
      worker, message, snapshot, displacement, tuple(parts), accepted
    )

  def _append(self, weights, heading):
    if self._jit_compile:
      # Alone, a concatenation copies whole blocks.
      weights, heading = xla_ops.optimization_barrier([weights, heading])
    return tf.concat([weights, heading], axis=0)

  def _book(self, worker, message, sums):
    begin = self.shards[0].packing.size + self._sender.size
    loss, *times, contributions = self._report.unpack(message[begin:])
    coefficients, accepted, version = self.ledger.arrive(
      worker, loss, sums, *times
    )
    if self._follows:
      rows = tf.convert_to_tensor(self.ledger.rows.value)
      self.loss_predictor.follow(rows, version - 1, version)
      forecast = self.loss_predictor.forecast(rows, version)
      self.ledger.loss_forecast.assign(tf.stack(forecast))
    self.buffers.merge(contributions, accepted)
    return coefficients, accepted, self._head(version)

  def _head(self, version):
    return self._heading.pack([version], self.buffers.contents())

  def _compiled(self, function: Callable) -> Callable:
    if not self._jit_compile:
      return function
    return tf.function(function, jit_compile=True, autograph=False)

  def _vector_specs(
    self, sizes: Sequence[int], extra: int
  ) -> list[tf.TensorSpec]:
    """Returns those of vectors, of which the first one has an extra."""
    sizes = [sizes[0] + extra, *sizes[1:]]
    return [tf.TensorSpec([size], packing.CARRIER) for size in sizes]

  @property
  def variables(self) -> dict[str, list[keras.Variable]]:
    """All state but the snapshots, by what it belongs to."""
    variables = {
      f"shard_{k}": part.variables for k, part in enumerate(self.shards)
    }
    variables |= {
      f"table_{k}": part.variables for k, part in enumerate(self.tables)
    }
    if self.frozen:
      variables["frozen"] = self.frozen
    variables["ledger"] = self.ledger.variables
    variables["buffers"] = self.buffers.variables
    if self.loss_predictor is not None:
      variables["loss_predictor"] = self.loss_predictor.variables
    if self.step_predictor is not None:
      variables["step_predictor"] = self.step_predictor.variables
    return variables


def _join(coefficients, accepted):
  """Returns them as one vector; None if there is nothing."""
  parts = list(coefficients)
  if accepted is not None:
    parts.append(tf.cast(accepted, tf.float32))
  return tf.stack(parts) if parts else None
