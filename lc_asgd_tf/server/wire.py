"""In what precision weights travel from the server to the workers."""

import tensorflow as tf

from lc_asgd_tf import errors
from lc_asgd_tf.server import packing

PULL_DTYPES = ("float32", "bfloat16", "float16")


def check_pull_dtype(dtype: str) -> None:
  """Raises a UserError unless workers can pull in this precision."""
  if dtype not in PULL_DTYPES:
    raise errors.UserError(
      f"pull_dtype must be one of {', '.join(PULL_DTYPES)}, got {dtype!r}."
    )


class Wire:
  """Weights as a worker pulls them, in a vector of float32.

  What a worker pulls, it computes with, and the server remembers as its
  snapshot: d = w - w_m is exact in any precision, since w_m is what the
  gradient was taken at. 16 bits halve the transfer and the snapshots; the
  server's own weights stay as they are.

  Args:
    count: how many weights.
    dtype: float32, bfloat16 or float16.

  Attributes:
    size: the length of the vector.
  """

  def __init__(self, count: int, dtype: str = "float32") -> None:
    check_pull_dtype(dtype)
    self._count = count
    self._dtype = tf.as_dtype(dtype)
    self._per_carrier = packing.CARRIER.size // self._dtype.size
    self.size = -(-count // self._per_carrier)

  def encode(self, weights: tf.Tensor) -> tf.Tensor:
    """Returns the weights, shape=(count,), float32, as they travel."""
    if self._per_carrier == 1:
      return weights
    padding = self.size * self._per_carrier - self._count
    narrow = tf.pad(tf.cast(weights, self._dtype), [[0, padding]])
    pairs = tf.reshape(narrow, [self.size, self._per_carrier])
    return tf.bitcast(pairs, packing.CARRIER)

  def decode(self, vector: tf.Tensor) -> tf.Tensor:
    """Returns the weights, shape=(count,), float32.

    Args:
      vector: what `encode` returned; a longer vector's rest is not read.
    """
    if self._per_carrier == 1:
      return vector
    pairs = tf.bitcast(vector[: self.size], self._dtype)
    narrow = tf.reshape(pairs, [-1])[: self._count]
    return tf.cast(narrow, packing.CARRIER)
