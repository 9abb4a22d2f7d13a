"""A learning rate for a single push."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf


@contextlib.contextmanager
def scaled(
  optimizer: keras.optimizers.Optimizer, factor: tf.Tensor | None
) -> Iterator[None]:
  """Multiplies an optimizer's learning rate inside of a `with`.

  A factor of the gradient would be undone by optimizers such as Adam, which
  divide by the size of recent gradients.

  Args:
    optimizer: whose learning rate may be a number, a schedule or a callable.
    factor: shape=(), float32; None for 1.
  """
  if factor is None:
    yield
    return
  learning_rate = optimizer._learning_rate
  product = factor * optimizer.learning_rate
  # Keras calls what is neither a variable nor a schedule.
  optimizer._learning_rate = lambda: product
  try:
    yield
  finally:
    optimizer._learning_rate = learning_rate
