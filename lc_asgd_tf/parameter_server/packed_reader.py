"""Reads variables of several devices in one packed transfer from each."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from lc_asgd_tf import server


class PackedReader:
  """Packs variables where they lie.

  Args:
    variables: on any devices, of any shapes and dtypes.
  """

  def __init__(self, variables: Sequence[keras.Variable]) -> None:
    self._parts = {}
    for variable in variables:
      self._parts.setdefault(variable.value.device, []).append(variable)
    self._packings = {
      device: server.Packing(
        [tf.TensorSpec(v.shape, v.value.dtype) for v in part]
      )
      for device, part in self._parts.items()
    }

  def read(self) -> list[tf.Tensor]:
    """Returns the variables as they are now, one vector per device."""
    packed = []
    for device, part in self._parts.items():
      with tf.device(device):
        values = [tf.convert_to_tensor(v.value) for v in part]
        packed.append(self._packings[device].pack(values))
    return packed

  def unpack(self, packed: Sequence[tf.Tensor]) -> dict[int, tf.Tensor]:
    """Returns the value of every variable, by the variable's id.

    Args:
      packed: what `read` returned.
    """
    values = {}
    for device, vector in zip(self._parts, packed, strict=True):
      parts = self._packings[device].unpack(vector)
      for variable, value in zip(self._parts[device], parts, strict=True):
        values[id(variable)] = value
    return values
