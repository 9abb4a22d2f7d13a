"""Less momentum for a push, with steps that are as much longer."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from lc_asgd_tf.server import learning_rates

# What Keras names the velocity of SGD.
_VELOCITY = "momentum"


@contextlib.contextmanager
def reduced(
  optimizer: keras.optimizers.Optimizer, momentum: Callable[[float], float]
) -> Iterator[None]:
  """Changes the momentum of SGD inside of a `with`.

  A gradient moves the weights by lr / (1 - beta) in all, which stays as it is:
  steps are longer by (1 - beta') / (1 - beta). Weight decay and clipping stay
  as they are. Other optimizers are left alone, subclasses of SGD among them,
  which may do anything.

  Args:
    optimizer: whose momentum is meant.
    momentum: returns beta' for a beta.
  """
  with contextlib.ExitStack() as changes:
    for owner in learning_rates.owners(optimizer):
      if _has_velocity(owner):
        changes.enter_context(_changed(owner, momentum(owner.momentum)))
    yield


def worth(
  optimizer: keras.optimizers.Optimizer, momentum: Callable[[float], float]
) -> float:
  """Returns how much of a velocity says the same with the whole momentum.

  A velocity goes on to move the weights by beta / (1 - beta) of it. So

      v = v' beta' / (1 - beta') (1 - beta) / beta.

  Args:
    optimizer: the inner optimizer.
    momentum: returns beta' for a beta.
  """
  if not _has_velocity(optimizer):
    return 1.0
  whole, left = optimizer.momentum, momentum(optimizer.momentum)
  if left == whole:
    return 1.0
  return left / (1.0 - left) * (1.0 - whole) / whole


def to_model(slot: str, value: tf.Tensor, worth: float) -> tf.Tensor:
  """Returns a slot as it is with the whole momentum; see `worth`."""
  return value * tf.cast(worth, value.dtype) if slot == _VELOCITY else value


def to_server(slot: str, value: tf.Tensor, worth: float) -> tf.Tensor:
  """Undoes `to_model`; where no momentum is left, no velocity is."""
  if slot != _VELOCITY:
    return value
  return tf.math.divide_no_nan(value, tf.cast(worth, value.dtype))


def _has_velocity(optimizer):
  return type(optimizer) is keras.optimizers.SGD and optimizer.momentum > 0


@contextlib.contextmanager
def _changed(sgd, momentum):
  before = sgd.momentum
  if momentum == before:
    yield
    return
  longer = (1.0 - momentum) / (1.0 - before)
  users = vars(sgd).get("update_step")
  update_step = sgd.update_step

  @functools.wraps(update_step)
  def longer_step(gradient, variable, learning_rate):
    # Keras casts it, too: a callable may return a whole number.
    learning_rate = keras.ops.cast(learning_rate, variable.dtype)
    update_step(gradient, variable, learning_rate * longer)

  sgd.momentum, sgd.update_step = momentum, longer_step
  try:
    yield
  finally:
    sgd.momentum = before
    if users is None:
      del sgd.update_step
    else:
      sgd.update_step = users
