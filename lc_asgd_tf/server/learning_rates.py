"""A learning rate for a single push."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf


def owners(
  optimizer: keras.optimizers.Optimizer,
) -> list[keras.optimizers.Optimizer]:
  """Returns the optimizers with a learning rate: of MultiOptimizer, its own."""
  return list(getattr(optimizer, "optimizers", [optimizer]))


def has_schedule(optimizer: keras.optimizers.Optimizer) -> bool:
  """Returns whether the learning rate follows from the number of updates."""
  schedule = keras.optimizers.schedules.LearningRateSchedule
  return isinstance(optimizer._learning_rate, schedule)


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
  before = [(owner, owner._learning_rate) for owner in owners(optimizer)]
  for owner, _ in before:
    product = factor * owner.learning_rate
    # Keras calls what is neither a variable nor a schedule.
    owner._learning_rate = lambda product=product: product
  try:
    yield
  finally:
    for owner, learning_rate in before:
      owner._learning_rate = learning_rate
