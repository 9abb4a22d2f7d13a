"""A table of embeddings, of which workers pull and push single rows."""

import math
from collections.abc import Callable, Mapping, Sequence

import keras
import tensorflow as tf

from lc_asgd_tf import errors, replicas
from lc_asgd_tf.compensation import compensation as compensation_lib
from lc_asgd_tf.server import (
  clones,
  flattening,
  learning_rates,
  momenta,
  packing,
)

# Rows that are updated at once. Keras optimizers keep their slots in variables
# of fixed shape, while every push has as many rows as it has.
_CHUNK = 256


class Table:
  """The rows of one embedding, with slots and MS, on one device.

  A push concerns the rows that its minibatch reads, of which the worker sends
  the gradients and, where the rule reads d, what it had pulled: there is no
  snapshot of a table. To the rule they are a variable like any other. All other
  rows, their slots and their MS stay as they are.

  Everything is created on the current device. `measure` and `apply` are for
  XLA to compile, which updates the table in place and, one at a time, holds the
  locks of its variables; what they cost grows with the rows of the push alone.

  Args:
    variable: the table, shape=(rows, width), whose value and name to take over.
    inner_optimizer: not built yet.
    compensation: the rule.
    num_workers: M, of the server, however few of them read the same row.
    pull_dtype: the precision in which workers pull.

  Attributes:
    weights: the table.
    optimizer: the inner optimizer, built for a chunk of rows.
    device: where they lie.

  Raises:
    UserError: if rule or inner optimizer need more than the rows of a push.
  """

  def __init__(
    self,
    variable: keras.Variable,
    inner_optimizer: keras.optimizers.Optimizer,
    compensation: compensation_lib.Compensation,
    num_workers: int,
    pull_dtype: str = "float32",
  ) -> None:
    _check(variable, inner_optimizer, compensation)
    self._variable = variable
    self._compensation = compensation
    self._momentum = momenta.Momentum(
      inner_optimizer, compensation, num_workers
    )
    self._pull_dtype = tf.as_dtype(pull_dtype)
    self._rows, self._width = variable.shape
    self.weights = clones.clone(variable)
    self.device = self.weights.value.device
    # What the inner optimizer sees: some rows, and their slots.
    chunk = keras.Variable(
      tf.zeros([_CHUNK, self._width]), name=self.weights.name
    )
    self.optimizer = inner_optimizer
    replicas.sum_over_none(self.optimizer)
    clones.exempt_copies(inner_optimizer, [variable], [chunk])
    self.optimizer.build([chunk])
    slots = [v for v in self.optimizer.variables if v.shape == chunk.shape]
    # Iterations, learning rate and the like.
    self._scalars = [v for v in self.optimizer.variables if not v.shape.rank]
    self._slots = [
      self._stored(tf.broadcast_to(slot.value[:1], variable.shape), slot.name)
      for slot in slots
    ]
    self._second_moment = None
    if compensation.second_moment_decay is not None:
      self._second_moment = self._stored(
        tf.zeros(variable.shape), f"{self.weights.name}_second_moment"
      )
    self._chunk = [chunk, *slots]

  def _stored(self, value, name):
    return keras.Variable(value, dtype="float32", trainable=False, name=name)

  @property
  def variables(self) -> list[keras.Variable]:
    """Weights, MS and the inner optimizer's state, in a fixed order."""
    moments = self._second_moments()
    return [self.weights, *moments, *self._slots, *self._scalars]

  def _second_moments(self):
    return [] if self._second_moment is None else [self._second_moment]

  @property
  def message_spec(self) -> tf.TensorSpec:
    """The specification of `message`."""
    parts = 2 if self._compensation.uses_displacement else 1
    return tf.TensorSpec([None, 1 + parts * self._width], packing.CARRIER)

  def assign(self, value: tf.Tensor) -> None:
    """Sets the weights, shape=(rows, width), as `Shard.assign` does."""
    self.weights.assign(value)
    clones.renew_diverged(self._second_moments())

  def slots(self, values: Mapping[int, tf.Tensor]) -> clones.Slots:
    """Returns the inner optimizer's state.

    Args:
      values: the value of every variable, by the variable's id.
    """
    return {
      key: self._momentum.to_model(key[1], values[id(variable)])
      for key, variable in self._keyed_state()
    }

  def assign_slots(self, slots: clones.Slots) -> None:
    """Sets the inner optimizer's state, as far as it is known."""
    for key, variable in self._keyed_state():
      if key in slots:
        variable.assign(self._momentum.to_server(key[1], slots[key]))

  def _keyed_state(self):
    state = [*self._slots, *self._scalars]
    return clones.keyed(state, [self.weights], [self._variable])

  def pull(self, ids: tf.Tensor) -> tf.Tensor:
    """Returns rows as they travel, shape=(k, width); see `pulled`.

    Not for XLA, which would not notice ids that do not exist.

    Args:
      ids: shape=(k,), int32.

    Raises:
      tf.errors.InvalidArgumentError: if there is no such row.
    """
    return tf.cast(_gather(self.weights, ids), self._pull_dtype)

  def pulled(self, rows: tf.Tensor) -> tf.Tensor:
    """Returns, on the worker, what `pull` sent: w_m, float32."""
    return tf.cast(rows, tf.float32)

  def message(
    self, ids: tf.Tensor, gradient: tf.Tensor, snapshot: tf.Tensor
  ) -> tf.Tensor:
    """Packs a worker's push, on the worker.

    Args:
      ids: of the rows, each once, shape=(k,), int32.
      gradient: g of these rows, shape=(k, width).
      snapshot: w_m, what the worker had pulled, shape=(k, width).

    Returns:
      A row [id | g | w_m] per row, without w_m if the rule reads no d, and
      rows of no effect that make their number one of a few, so that few
      functions have to be compiled.
    """
    count = tf.shape(ids)[0]
    chunks = tf.cast(count, tf.float64) / _CHUNK
    # Not one too high where the logarithm is not exact.
    doublings = tf.math.ceil(tf.math.log(chunks) / math.log(2.0) - 1e-9)
    size = _CHUNK * tf.cast(2.0 ** tf.maximum(doublings, 0.0), tf.int32)
    missing = [[0, size - count], [0, 0]]
    # There is no such row, and XLA leaves it alone.
    ids = tf.pad(ids[:, tf.newaxis], missing, constant_values=self._rows)
    columns = [tf.bitcast(ids, packing.CARRIER), tf.pad(gradient, missing)]
    if self._compensation.uses_displacement:
      columns.append(tf.pad(snapshot, missing))
    return tf.concat(columns, axis=1)

  def measure(self, message: tf.Tensor) -> tf.Tensor:
    """Returns the rule's sums over the rows of a push, shape=(k,)."""
    _, *parts = self._open(message)

    def share(rows):
      return self._compensation.measure(*self._of(rows))

    spec = tf.function(share, autograph=False).get_concrete_function(
      [tf.TensorSpec(part.shape[1:], part.dtype) for part in parts]
    )
    sums = spec.structured_outputs
    shares = _map_chunks(share, parts, tf.TensorSpec(sums.shape, sums.dtype))
    return tf.reduce_sum(shares, axis=0)

  def apply(
    self,
    message: tf.Tensor,
    coefficients: Sequence[tf.Tensor],
    accepted: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """Compensates, and hands u to the inner optimizer.

    Args:
      message: what `message` returned.
      coefficients: the rule's scalars.
      accepted: shape=(), bool; whether the push counts. None: it does.

    Returns:
      Something to wait for, shape=().
    """
    ids, *parts = self._open(message)
    stored = [self.weights, *self._slots]
    current = [self._chunks(_gather(variable, ids)) for variable in stored]
    before = [tf.convert_to_tensor(v.value) for v in self._scalars]
    factor = self._compensation.rate_factor(coefficients)

    def update(rows):
      rows, state = rows[: len(parts)], rows[len(parts) :]
      g, d, moment = self._of(rows)
      u = self._compensation.compensate(g, d, moment, coefficients)
      if accepted is not None:
        u = tf.where(accepted, u, tf.zeros_like(u))
      # One step of all chunks, not one after the other.
      for variable, value in zip(self._scalars, before, strict=True):
        variable.assign(value)
      for variable, value in zip(self._chunk, state, strict=True):
        variable.assign(value)
      with (
        learning_rates.scaled(self.optimizer, factor),
        self._momentum.reduced(self._compensation.longest_step(coefficients)),
      ):
        self.optimizer.apply([u], self._chunk[:1])
      return [tf.convert_to_tensor(v.value) for v in self._chunk]

    chunk = tf.TensorSpec([_CHUNK, self._width], tf.float32)
    updated = _map_chunks(update, [*parts, *current], [chunk] * len(stored))
    if self._second_moment is not None:
      moment = parts[-1]
      if accepted is not None:
        old = self._chunks(_gather(self._second_moment, ids))
        moment = tf.where(accepted, moment, old)
      stored.append(self._second_moment)
      updated.append(moment)
    for variable, value in zip(stored, updated, strict=True):
      tf.raw_ops.ResourceScatterUpdate(
        resource=variable.value.handle,
        indices=ids,
        updates=tf.reshape(value, [-1, self._width]),
      )
    return tf.shape(ids)[0]

  def _open(self, message):
    """Returns ids, shape=(k,), and by chunks g, d and MS as far as read."""
    ids = tf.bitcast(message[:, 0], tf.int32)
    gradient = message[:, 1 : 1 + self._width]
    parts = [gradient]
    if self._compensation.uses_displacement:
      displacement = _gather(self.weights, ids) - message[:, 1 + self._width :]
      exists = ids[:, tf.newaxis] < self._rows
      parts.append(tf.where(exists, displacement, 0.0))
    if self._second_moment is not None:
      parts.append(
        compensation_lib.second_moment_update(
          gradient,
          _gather(self._second_moment, ids),
          self._compensation.second_moment_decay,
        )
      )
    return ids, *map(self._chunks, parts)

  def _of(self, parts):
    """Returns g, d and MS, None where they are not read."""
    parts = iter(parts)
    return (
      next(parts),
      next(parts) if self._compensation.uses_displacement else None,
      next(parts) if self._second_moment is not None else None,
    )

  def _chunks(self, rows):
    return tf.reshape(rows, [-1, _CHUNK, self._width])


def _gather(variable: keras.Variable, ids: tf.Tensor) -> tf.Tensor:
  # Reads no more than the rows, which `tf.gather` of a variable would not do
  # everywhere.
  return tf.raw_ops.ResourceGather(
    resource=variable.value.handle, indices=ids, dtype=tf.float32
  )


def _map_chunks(function: Callable, parts: Sequence[tf.Tensor], signature):
  """Returns function of the first chunks, of the second ones, and so on."""
  return tf.map_fn(
    function,
    list(parts),
    fn_output_signature=signature,
    parallel_iterations=1,
  )


def _check(variable, inner_optimizer, compensation) -> None:
  """Raises a UserError if a push cannot be applied to its rows alone."""
  path = variable.path
  needs_all = (
    compensation.synchronous
    or compensation.uses_step_size
    or compensation.worker_momentum is not None
  )
  if needs_all or not flattening.is_elementwise(compensation):
    raise errors.UserError(
      f"{type(compensation).__name__} cannot update single rows of {path}; use "
      "another rule, or keras.layers.Embedding."
    )
  if (
    not flattening.is_possible([variable], inner_optimizer, compensation)
    or inner_optimizer.global_clipnorm
    or inner_optimizer.use_ema
    or inner_optimizer.gradient_accumulation_steps
  ):
    raise errors.UserError(
      f"{type(inner_optimizer).__name__}, as it is configured, cannot update "
      f"single rows of {path}: that takes an optimizer which treats every "
      "weight by itself (SGD, Adam, Adagrad and the like), without clipnorm, "
      "global_clipnorm, use_ema and gradient_accumulation_steps, and a table "
      "of float32 without a constraint."
    )
