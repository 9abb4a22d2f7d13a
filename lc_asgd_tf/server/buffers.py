"""The model's non-trainable variables, which all workers' pushes move."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from lc_asgd_tf import normalization
from lc_asgd_tf.server import packing


class Buffers:
  """Moving statistics, counters, and whatever else is not trained.

  They travel as one vector, in which the moving statistics, of which a model
  has many, come first and are merged at once. Everything is created on the
  current device.

  Args:
    buffers: whose values to take over.
    kinds: (kind, momentum) of each.

  Attributes:
    variables: the state; moving statistics are one variable.
    size: the length of the packed vector.
  """

  def __init__(
    self,
    buffers: Sequence[keras.Variable],
    kinds: Sequence[tuple[normalization.Kind, float]],
  ) -> None:
    moving = [
      kind is normalization.Kind.MOVING_STATISTIC and buffer.dtype == "float32"
      for buffer, (kind, _) in zip(buffers, kinds, strict=True)
    ]
    # Indices into the model's order; False sorts first.
    self._order = sorted(range(len(buffers)), key=lambda i: not moving[i])
    self._num_moving = sum(moving)
    ordered = [buffers[i] for i in self._order]
    specs = [tf.TensorSpec(b.shape, b.dtype) for b in ordered]
    self._packing = packing.Packing(specs)
    self._others = packing.Packing(specs[self._num_moving :])
    self.size = self._packing.size
    self._moving_size = self.size - self._others.size
    self._kinds = [kinds[i] for i in self._order[self._num_moving :]]
    self._other_variables = [
      keras.Variable(
        tf.convert_to_tensor(buffer.value),
        dtype=buffer.dtype,
        trainable=False,
        name=buffer.name,
      )
      for buffer in ordered[self._num_moving :]
    ]
    self._statistics = None
    if self._num_moving:
      statistics = ordered[: self._num_moving]
      self._statistics = keras.Variable(
        tf.concat([tf.reshape(b.value, [-1]) for b in statistics], axis=0),
        dtype="float32",
        trainable=False,
        name="moving_statistics",
      )
      self._momentum = np.concatenate(
        [
          np.full(buffers[i].shape.num_elements(), kinds[i][1], np.float32)
          for i in self._order[: self._num_moving]
        ]
      )
    self.variables = self._other_variables
    if self._statistics is not None:
      self.variables = [self._statistics, *self._other_variables]

  def contents(self) -> tf.Tensor:
    """Returns all values, packed."""
    return self._join([tf.convert_to_tensor(v.value) for v in self.variables])

  def values(self, values: Mapping[int, tf.Tensor]) -> list[tf.Tensor]:
    """Returns one value per buffer, in the model's order.

    Args:
      values: the value of every variable, by the variable's id.
    """
    return self.unpack(self._join([values[id(v)] for v in self.variables]))

  def _join(self, parts):
    if self._statistics is None:
      return self._others.pack(parts)
    return tf.concat([parts[0], self._others.pack(parts[1:])], axis=0)

  def merge(self, sent: tf.Tensor, accepted: tf.Tensor | None) -> None:
    """Merges what a worker sent (see `lc_asgd_tf.normalization`).

    Args:
      sent: contributions, packed.
      accepted: shape=(), bool; whether they count. None: they do.
    """
    moving = normalization.Kind.MOVING_STATISTIC
    merges = []
    if self._statistics is not None:
      part = sent[: self._moving_size]
      merges.append((self._statistics, part, moving, self._momentum))
    parts = self._others.unpack(sent[self._moving_size :])
    for variable, part, kind in zip(
      self._other_variables, parts, self._kinds, strict=True
    ):
      merges.append((variable, part, *kind))
    for variable, part, kind, momentum in merges:
      current = tf.convert_to_tensor(variable.value)
      merged = normalization.merge(kind, momentum, current, part)
      if accepted is not None:
        merged = tf.where(accepted, merged, current)
      variable.assign(merged)

  def pack(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns one value per buffer, in the model's order, as one vector."""
    return self._packing.pack([values[i] for i in self._order])

  def unpack(self, vector: tf.Tensor) -> list[tf.Tensor]:
    """Returns what `pack` packed, in the model's order."""
    values = [None] * len(self._order)
    parts = self._packing.unpack(vector)
    for i, part in zip(self._order, parts, strict=True):
      values[i] = part
    return values

  def assign(self, values: Sequence[tf.Tensor]) -> None:
    """Sets the buffers, in the model's order."""
    vector = self.pack(values)
    if self._statistics is not None:
      self._statistics.assign(vector[: self._moving_size])
    parts = self._others.unpack(vector[self._moving_size :])
    for variable, part in zip(self._other_variables, parts, strict=True):
      variable.assign(part)
