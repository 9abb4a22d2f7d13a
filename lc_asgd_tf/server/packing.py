"""Many tensors in one: a packed transfer each way per ps task."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

# float32 and not bytes, so that packing runs where the gradients are.
CARRIER = tf.float32


class Packing:
  """Packs tensors of fixed shapes and any dtypes into one float32 vector.

  float32 travels as it is. Other types of 32 or 64 bits travel bit by bit;
  smaller ones are cast to float32, which holds their values exactly.

  Attributes:
    size: the length of the packed vector.
  """

  def __init__(self, specs: Sequence[tf.TensorSpec]) -> None:
    self._specs = list(specs)
    self._sizes = [
      spec.shape.num_elements() * max(1, spec.dtype.size // CARRIER.size)
      for spec in self._specs
    ]
    self.size = sum(self._sizes)

  @property
  def spec(self) -> tf.TensorSpec:
    """The packed vector's own shape and dtype."""
    return tf.TensorSpec([self.size], CARRIER)

  def pack(self, tensors: Sequence[tf.Tensor], *rest: tf.Tensor) -> tf.Tensor:
    """Returns the tensors as one vector, shape=(size,), float32.

    Args:
      tensors: one per specification.
      *rest: vectors to append, float32; the result is as much longer.
    """
    if len(tensors) != len(self._specs):
      raise ValueError(
        f"Expected {len(self._specs)} tensors to pack, got {len(tensors)}."
      )
    tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
    for tensor, spec in zip(tensors, self._specs, strict=True):
      tensor.shape.assert_is_compatible_with(spec.shape)
    flat = [
      tf.reshape(_to_carrier(tf.cast(tensor, spec.dtype)), [-1])
      for tensor, spec in zip(tensors, self._specs, strict=True)
    ]
    flat += rest
    return tf.concat(flat, axis=0) if flat else tf.zeros([0], CARRIER)

  def unpack(self, vector: tf.Tensor) -> list[tf.Tensor]:
    """Returns what `pack` packed; the rest of a longer vector is not read."""
    if vector.shape != [self.size]:
      vector = vector[: self.size]
    parts = tf.split(vector, self._sizes) if self._sizes else []
    return [
      _from_carrier(part, spec)
      for part, spec in zip(parts, self._specs, strict=True)
    ]

  def unpack_array(self, vector: np.ndarray) -> list[np.ndarray]:
    """As `unpack`, for NumPy and without a call of TensorFlow."""
    ends = np.cumsum(self._sizes)
    return [
      _array_from_carrier(vector[end - size : end], spec)
      for end, size, spec in zip(ends, self._sizes, self._specs, strict=True)
    ]


def _array_from_carrier(part: np.ndarray, spec: tf.TensorSpec) -> np.ndarray:
  dtype = spec.dtype.as_numpy_dtype
  same_bits = spec.dtype.size >= CARRIER.size
  values = part.view(dtype) if same_bits else part.astype(dtype)
  return values.reshape(spec.shape)


def _to_carrier(tensor: tf.Tensor) -> tf.Tensor:
  if tensor.dtype == CARRIER:
    return tensor
  if tensor.dtype.size < CARRIER.size:
    return tf.cast(tensor, CARRIER)
  return tf.bitcast(tensor, CARRIER)


def _from_carrier(part: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
  if spec.dtype == CARRIER:
    return tf.reshape(part, spec.shape)
  if spec.dtype.size < CARRIER.size:
    return tf.reshape(tf.cast(part, spec.dtype), spec.shape)
  ratio = spec.dtype.size // CARRIER.size
  if ratio > 1:
    part = tf.reshape(part, [-1, ratio])
  return tf.reshape(tf.bitcast(part, spec.dtype), spec.shape)
