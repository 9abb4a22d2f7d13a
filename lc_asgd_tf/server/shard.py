"""Some of the weights, with all that belongs to them, on one device."""

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from lc_asgd_tf import errors, replicas
from lc_asgd_tf.compensation import compensation as compensation_lib
from lc_asgd_tf.compensation import dana, xla_ops
from lc_asgd_tf.server import (
  clones,
  flattening,
  learning_rates,
  momenta,
  packing,
  wire,
)

# The name of weights that are one vector.
_FLAT = "weights"


class Shard:
  """Weights, inner optimizer state and MS of some variables.

  Everything is created on the current device. Weights, gradients and snapshots
  enter and leave as packed vectors, in the order of the variables. Whoever
  calls the methods decides what is compiled together, and must see to it that
  `apply` is atomic.

  Args:
    variables: the variables whose values, names and constraints to take over.
    inner_optimizer: not built yet, or built on the same shapes before.
    compensation: the rule.
    num_workers: M.
    flat: whether to keep the weights as one vector, where that changes nothing
      (see `flattening`).
    pull_dtype: the precision in which workers pull (see `wire`).
    jit_compile: whether `apply` is for functions that XLA compiles.

  Attributes:
    weights: w, one `keras.Variable` per variable, or a single one, packed.
    packing: how they are packed.
    wire: how they travel when they are pulled.
    optimizer: the inner optimizer, built on `weights`.
    second_moments: MS, one per weight; empty if the rule reads none.
    step_square: the squared norm of the latest step, shape=(), if the rule
      reads it.
    first_factor: of the learning rate, that of the first push of an update, if
      the rule has one and the inner optimizer makes updates of several.
    velocities: v_m, packed, shape=(M, n), if the rule has a momentum per
      worker; `total_velocity` is their sum, shape=(n,).
    idle: which of the weights, by their indices, pushes have no gradient for;
      as in Keras, they are left alone. The caller may say so, unless they are
      one vector.
  """

  def __init__(
    self,
    variables: Sequence[keras.Variable],
    inner_optimizer: keras.optimizers.Optimizer,
    compensation: compensation_lib.Compensation,
    num_workers: int,
    flat: bool = False,
    pull_dtype: str = "float32",
    jit_compile: bool = False,
  ) -> None:
    self._compensation = compensation
    self._jit_compile = jit_compile
    self._variables = list(variables)
    self.packing = packing.Packing(
      [tf.TensorSpec(v.shape, v.dtype) for v in variables]
    )
    self.wire = wire.Wire(self.packing.size, pull_dtype)
    _check_gradients(variables)
    _check_precision(variables, compensation)
    wide = [v.path for v in variables if v.dtype != "float32"]
    if pull_dtype != "float32" and wide:
      raise errors.UserError(
        f"pull_dtype={pull_dtype} needs weights of float32, which {wide[0]} is "
        "not; leave it out."
      )
    self._flat = flat and flattening.is_possible(
      variables, inner_optimizer, compensation
    )
    # What of the packed vector belongs to which of the weights.
    self._columns = self.packing
    self.idle: Sequence[int] = ()
    if self._flat:
      self._columns = packing.Packing([self.packing.spec])
      vector = self.packing.pack([clones.value(v) for v in variables])
      self.weights = [keras.Variable(vector, dtype="float32", name=_FLAT)]
    else:
      self.weights = [clones.clone(variable) for variable in variables]
    self.optimizer = inner_optimizer
    replicas.sum_over_none(self.optimizer)
    clones.exempt_copies(inner_optimizer, variables, self.weights)
    self.optimizer.build(self.weights)
    _check_accumulation(self.optimizer)
    self.second_moments = []
    if compensation.second_moment_decay is not None:
      self.second_moments = [
        keras.Variable(
          tf.zeros(weight.shape, weight.dtype),
          trainable=False,
          name=f"{weight.name}_second_moment",
        )
        for weight in self.weights
      ]

    self._extra = []
    if compensation.uses_step_size:
      self.step_square = self._state([], "step_square")
    self._momentum = momenta.Momentum(self.optimizer, compensation, num_workers)
    accumulates = bool(self.optimizer.gradient_accumulation_steps)
    own_factor = type(compensation).rate_factor
    has_factor = own_factor is not compensation_lib.Compensation.rate_factor
    self._shares_factor = accumulates and has_factor
    if self._shares_factor:
      self.first_factor = self._state([], "first_factor")
    if compensation.worker_momentum is not None:
      size = self.packing.size
      self.velocities = self._state([num_workers, size], "velocities")
      self.total_velocity = self._state([size], "total_velocity")

  def _state(self, shape, name):
    self._extra.append(
      keras.Variable(
        tf.zeros(shape), dtype="float32", trainable=False, name=name
      )
    )
    return self._extra[-1]

  @property
  def variables(self) -> list[keras.Variable]:
    """Weights, the rule's and the inner optimizer's state, in a fixed order."""
    return (
      self.weights
      + self.second_moments
      + self._extra
      + self.optimizer.variables
    )

  def current(self) -> tf.Tensor:
    """Returns w, packed, shape=(n,), float32."""
    return self._columns.pack([weight.value for weight in self.weights])

  def assign(self, values: Sequence[tf.Tensor]) -> None:
    """Sets w, one value per variable.

    What of the rule's own state has diverged begins anew: nobody who sets
    weights, to go on from there, sees it.
    """
    if self._flat:
      values = [self.packing.pack(values)]
    for weight, value in zip(self.weights, values, strict=True):
      weight.assign(value)
    clones.renew_diverged([*self.second_moments, *self._extra])

  def split(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Returns one value per variable of one value per weight."""
    return self.packing.unpack(values[0]) if self._flat else list(values)

  def slots(self, values: Mapping[int, tf.Tensor]) -> clones.Slots:
    """Returns the inner optimizer's state.

    Args:
      values: the value of every variable, by the variable's id.
    """
    slots = {}
    for key, variable in self._keyed_state():
      parts = [values[id(variable)]]
      if key[0] is not None:
        parts = self.split(parts)
      parts = [self._momentum.to_model(key[1], part) for part in parts]
      slots |= zip(self._keys_in_model(key), parts, strict=True)
    return slots

  def assign_slots(self, slots: clones.Slots) -> None:
    """Sets the inner optimizer's state, as far as it is known."""
    for key, variable in self._keyed_state():
      keys = self._keys_in_model(key)
      if all(part in slots for part in keys):
        parts = [self._momentum.to_server(key[1], slots[part]) for part in keys]
        is_packed = self._flat and key[0] is not None
        variable.assign(self.packing.pack(parts) if is_packed else parts[0])

  @property
  def pushes(self) -> int:
    """How many pushes have arrived here, as the inner optimizer counts."""
    return int(self.optimizer._iterations.numpy())

  def forget_accumulated(self, pushes: int) -> None:
    """Has the inner optimizer, if it accumulates, begin a new update.

    Args:
      pushes: how many it is to have seen, but for those of no whole update.
    """
    steps = self.optimizer.gradient_accumulation_steps
    if not steps:
      return
    for gradient in self.optimizer._accumulated_gradients:
      gradient.assign(tf.zeros(gradient.shape, gradient.dtype))
    self.optimizer._iterations.assign(pushes // steps * steps)

  def shared_state(self) -> list[keras.Variable]:
    """Returns the inner optimizer's state that is named after no weight."""
    return [
      variable for (owner, _), variable in self._keyed_state() if owner is None
    ]

  def _keyed_state(self):
    originals = None if self._flat else self._variables
    return clones.keyed(self.optimizer.variables, self.weights, originals)

  def _keys_in_model(self, key):
    """Returns the keys that share a variable: of one vector, everyone's."""
    owner, name = key
    if owner is None or not self._flat:
      return [key]
    return [(id(variable), name) for variable in self._variables]

  def pull(self) -> tf.Tensor:
    """Returns what a worker pulls, w or a look ahead from it, as it travels."""
    weights = self.current()
    momentum = self._compensation.worker_momentum
    if momentum is not None:
      weights = dana.look_ahead(
        weights,
        tf.convert_to_tensor(self.total_velocity.value),
        self.optimizer.learning_rate,
        momentum,
      )
    return self.wire.encode(weights)

  def measure(
    self, gradient: tf.Tensor, snapshot: tf.Tensor
  ) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Returns the rule's sums over this shard, shape=(k,), and d.

    Args:
      gradient: g, packed; a longer vector's rest is not read.
      snapshot: w_m, as it travelled; likewise.
    """
    displacement = self._displacement(snapshot)
    shares = [
      self._compensation.measure(g, d, moment)
      for g, d, moment in self._rows(gradient, displacement)
    ]
    sums = tf.add_n(shares)
    if self._compensation.uses_step_size:
      square = tf.convert_to_tensor(self.step_square.value)
      count = tf.constant(
        float(sum(w.shape.num_elements() for w in self.weights))
      )
      sums = tf.concat([sums, [square, count]], axis=0)
    return sums, displacement

  def apply(
    self,
    worker: tf.Tensor,
    gradient: tf.Tensor,
    snapshot: tf.Tensor | None,
    displacement: Sequence[tf.Tensor] | None,
    coefficients: Sequence[tf.Tensor],
    accepted: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """Compensates, hands u to the inner optimizer, returns the new weights.

    Args:
      worker: m, shape=(), int64.
      gradient: g, packed; a longer vector's rest is not read.
      snapshot: w_m, as it travelled, if the rule reads d.
      displacement: d as `measure` returned it, or None to take it now.
      coefficients: the rule's scalars.
      accepted: shape=(), bool; whether the push counts. None: it does.

    Returns:
      What the worker pulls next, which is also its next snapshot.
    """
    self._update(
      worker, gradient, snapshot, displacement, coefficients, accepted
    )
    return self.pull()

  def _update(
    self, worker, gradient, snapshot, displacement, coefficients, accepted
  ):
    if self._compensation.worker_momentum is not None:
      gradient = self._accelerate(worker, gradient[: self.packing.size])
    if displacement is None and self._compensation.uses_displacement:
      displacement = self._displacement(snapshot)
    updates = []
    for row, (g, d, moment) in enumerate(self._rows(gradient, displacement)):
      if moment is not None:
        state = self.second_moments[row]
        if accepted is not None:
          moment = tf.where(accepted, moment, state.value)
        if self._jit_compile:
          # Read, where XLA would compute it again, from a copy of the old one.
          (moment,) = xla_ops.optimization_barrier([moment])
        state.assign(moment)
      u = self._compensation.compensate(g, d, moment, coefficients)
      if accepted is not None:
        u = tf.where(accepted, u, tf.zeros_like(u))
      updates.append(u)
    needs_step = self._compensation.uses_step_size
    before = self.current() if needs_step else None
    factor = self._compensation.rate_factor(coefficients)
    if factor is not None and self._shares_factor:
      updates, factor = self._relative(updates, factor)
    active = [i for i in range(len(updates)) if i not in self.idle]
    with (
      learning_rates.scaled(self.optimizer, factor),
      self._momentum.reduced(self._compensation.longest_step(coefficients)),
    ):
      self.optimizer.apply(
        [updates[i] for i in active], [self.weights[i] for i in active]
      )
    if needs_step:
      step = self.current() - before
      square = tf.reduce_sum(step * step)
      # A push that only adds to an accumulated gradient is no step.
      self.step_square.assign(tf.where(square > 0.0, square, self.step_square))

  def _relative(self, updates, factor):
    """Returns u and the factor of an update that several pushes make.

    The learning rate has one factor, that of the first of them; each u has its
    own, relative to it.
    """
    steps = self.optimizer.gradient_accumulation_steps
    begins = self.optimizer._iterations.value % steps == 0
    first = tf.where(begins, factor, self.first_factor.value)
    self.first_factor.assign(first)
    relative = tf.math.divide_no_nan(factor, first)
    return [u * tf.cast(relative, u.dtype) for u in updates], first

  def _accelerate(self, worker, gradient):
    """Returns v_m, updated with g, in place of g."""
    old = tf.raw_ops.ResourceGather(
      resource=self.velocities.value.handle, indices=worker, dtype=tf.float32
    )
    velocity = dana.velocity_update(
      old, gradient, self._compensation.worker_momentum
    )
    self.total_velocity.assign(self.total_velocity.value + (velocity - old))
    # In place, whatever M is.
    tf.raw_ops.ResourceScatterUpdate(
      resource=self.velocities.value.handle,
      indices=worker[tf.newaxis],
      updates=velocity[tf.newaxis],
    )
    return velocity

  def _displacement(self, snapshot):
    """Returns d = w - w_m, one per variable."""
    return [
      weight.value - old
      for weight, old in zip(
        self.weights,
        self._columns.unpack(self.wire.decode(snapshot)),
        strict=True,
      )
    ]

  def _rows(self, gradient, displacement):
    """Yields (g, d, MS updated with g) per variable."""
    decay = self._compensation.second_moment_decay
    for row, g in enumerate(self._columns.unpack(gradient)):
      moment = None
      if decay is not None:
        moment = compensation_lib.second_moment_update(
          g, self.second_moments[row].value, decay
        )
      yield g, displacement and displacement[row], moment


def _check_gradients(variables):
  """Raises a UserError where a gradient is none but a new value."""
  for variable in variables:
    if getattr(variable, "overwrite_with_gradient", False):
      raise errors.UserError(
        f"{variable.path} takes its gradient for its new value, as the scales "
        "of float8 training do, which is no gradient that could be late: "
        "train with num_workers=1 and keras.Model.fit, or in another precision."
      )


def _check_accumulation(optimizer):
  """Raises a UserError where nobody would see who accumulates gradients."""
  parts = learning_rates.owners(optimizer)
  if parts != [optimizer] and any(
    part.gradient_accumulation_steps for part in [optimizer, *parts]
  ):
    raise errors.UserError(
      f"{type(optimizer).__name__} cannot make one update of several "
      "gradients, as gradient_accumulation_steps and synchronous rules do: use "
      "a single optimizer, or num_workers=1."
    )


def _check_precision(variables, compensation):
  """Raises a UserError where a rule would compute with packed doubles."""
  computes = (
    compensation.worker_momentum is not None or compensation.uses_step_size
  )
  has_moments = compensation.second_moment_decay is not None
  for variable in variables:
    if has_moments and not variable.value.dtype.is_floating:
      raise errors.UserError(
        f"{type(compensation).__name__} averages squared gradients, and "
        f"{variable.path} is {variable.dtype}: make it trainable=False."
      )
    if computes and variable.value.dtype.size > packing.CARRIER.size:
      raise errors.UserError(
        f"{type(compensation).__name__} works with weights of at most 32 bits, "
        f"and {variable.path} is {variable.dtype}."
      )
