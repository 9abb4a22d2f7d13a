"""Some of the weights, with all that belongs to them, on one device."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from lc_asgd_tf.compensation import compensation as compensation_lib
from lc_asgd_tf.server import packing


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

  Attributes:
    weights: w, one `keras.Variable` per variable.
    packing: how they are packed.
    optimizer: the inner optimizer, built on `weights`.
    second_moments: MS, one per variable; empty if the rule reads none.
  """

  def __init__(
    self,
    variables: Sequence[keras.Variable],
    inner_optimizer: keras.optimizers.Optimizer,
    compensation: compensation_lib.Compensation,
  ) -> None:
    self._compensation = compensation
    self.weights = [_clone(variable) for variable in variables]
    self.packing = packing.Packing(
      [tf.TensorSpec(v.shape, v.dtype) for v in self.weights]
    )
    self.optimizer = inner_optimizer
    self.optimizer.build(self.weights)
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

  @property
  def variables(self) -> list[keras.Variable]:
    """Weights, MS and the inner optimizer's state, in a fixed order."""
    return self.weights + self.second_moments + self.optimizer.variables

  def pull(self) -> tf.Tensor:
    """Returns w, packed, shape=(n,), float32."""
    return self.packing.pack([weight.value for weight in self.weights])

  def measure(
    self, gradient: tf.Tensor, snapshot: tf.Tensor
  ) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Returns the rule's sums over this shard, shape=(k,), and d.

    Args:
      gradient: g, packed; a longer vector's rest is not read.
      snapshot: w_m, packed; likewise.
    """
    displacement = self._displacement(snapshot)
    shares = [
      self._compensation.measure(g, d, moment)
      for g, d, moment in self._rows(gradient, displacement)
    ]
    return tf.add_n(shares), displacement

  def apply(
    self,
    gradient: tf.Tensor,
    snapshot: tf.Tensor | None,
    displacement: Sequence[tf.Tensor] | None,
    coefficients: Sequence[tf.Tensor],
    accepted: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """Compensates, hands u to the inner optimizer, returns the new weights.

    Args:
      gradient: g, packed; a longer vector's rest is not read.
      snapshot: w_m, packed, if the rule reads d.
      displacement: d as `measure` returned it, or None to take it now.
      coefficients: the rule's scalars.
      accepted: shape=(), bool; whether the push counts. None: it does.

    Returns:
      w after the update, packed, which is also the worker's next snapshot.
    """
    if displacement is None and self._compensation.uses_displacement:
      displacement = self._displacement(snapshot)
    updates = []
    for row, (g, d, moment) in enumerate(self._rows(gradient, displacement)):
      u = self._compensation.compensate(g, d, moment, coefficients)
      if accepted is not None:
        u = tf.where(accepted, u, tf.zeros_like(u))
      if moment is not None:
        state = self.second_moments[row]
        if accepted is not None:
          moment = tf.where(accepted, moment, state.value)
        state.assign(moment)
      updates.append(u)
    self.optimizer.apply(updates, self.weights)
    return self.pull()

  def _displacement(self, snapshot):
    """Returns d = w - w_m, one per variable."""
    return [
      weight.value - old
      for weight, old in zip(
        self.weights, self.packing.unpack(snapshot), strict=True
      )
    ]

  def _rows(self, gradient, displacement):
    """Yields (g, d, MS updated with g) per variable."""
    decay = self._compensation.second_moment_decay
    for row, g in enumerate(self.packing.unpack(gradient)):
      moment = None
      if decay is not None:
        moment = compensation_lib.second_moment_update(
          g, self.second_moments[row].value, decay
        )
      yield g, displacement and displacement[row], moment


def _clone(variable: keras.Variable) -> keras.Variable:
  """Returns a variable of the same value on the current device.

  It is named by the whole path, which is unique and which the names of the
  inner optimizer's slots begin with, there as here.
  """
  clone = keras.Variable(
    tf.convert_to_tensor(variable.value),
    dtype=variable.dtype,
    trainable=True,
    name=variable.path.replace("/", "_"),
  )
  clone.constraint = variable.constraint
  return clone
