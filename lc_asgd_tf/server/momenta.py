"""Less momentum for a push, at longer steps."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from lc_asgd_tf.compensation import compensation as compensation_lib
from lc_asgd_tf.server import learning_rates

# What Keras names the velocity of SGD.
_VELOCITY = "momentum"


class Momentum:
  """What a rule leaves an inner optimizer of its momentum, beta' of beta.

  That of SGD alone: other optimizers are left alone, subclasses of SGD among
  them, which may do anything.

  Args:
    optimizer: the inner optimizer.
    compensation: the rule.
    num_workers: M.
  """

  def __init__(
    self,
    optimizer: keras.optimizers.Optimizer,
    compensation: compensation_lib.Compensation,
    num_workers: int,
  ) -> None:
    self._optimizer = optimizer
    self._compensation = compensation
    pushes_per_update = optimizer.gradient_accumulation_steps or 1
    self._num_workers = num_workers / pushes_per_update
    self._worth = 1.0
    if _has_velocity(optimizer):
      self._worth = _worth(optimizer, self._left(optimizer))

  @contextlib.contextmanager
  def reduced(self, longest: tf.Tensor | None = None) -> Iterator[None]:
    """Gives the optimizer beta' in place of beta inside of a `with`.

    A gradient moves the weights by lr / (1 - beta) in all, which stays as it
    is: steps are longer by (1 - beta') / (1 - beta). Weight decay and clipping
    stay as they are.

    Args:
      longest: what lr / (1 - beta) may be, shape=(); where it is more, steps
        are longer by less, but never shorter than they were. None for no bound.
    """
    with contextlib.ExitStack() as changes:
      for owner in learning_rates.owners(self._optimizer):
        if _has_velocity(owner):
          changes.enter_context(_changed(owner, self._left(owner), longest))
      yield

  def to_model(self, slot: str, value: tf.Tensor) -> tf.Tensor:
    """Returns a slot as it is with beta.

    Without a gradient, the next update moves the weights by beta' v', or by
    beta'^2 v' if the momentum is Nesterov's. So that it moves them as far with
    beta,

        v = v' beta' / beta    or    v = v' (beta' / beta)^2.

    How far they go on in all is not kept, since a server goes there at once:
    the velocity of many updates, spent in one, would be far too long a step.

    Args:
      slot: its name.
      value: as it is on the server.
    """
    if slot != _VELOCITY:
      return value
    return value * tf.cast(self._worth, value.dtype)

  def to_server(self, slot: str, value: tf.Tensor) -> tf.Tensor:
    """Undoes `to_model`; where no momentum is left, no velocity is."""
    if slot != _VELOCITY:
      return value
    return tf.math.divide_no_nan(value, tf.cast(self._worth, value.dtype))

  def _left(self, sgd):
    return self._compensation.explicit_momentum(sgd.momentum, self._num_workers)


def _has_velocity(optimizer):
  return type(optimizer) is keras.optimizers.SGD and optimizer.momentum > 0


def _worth(sgd, left):
  """Returns v / v'; 1 to the last bit where nothing changes."""
  ratio = left / sgd.momentum
  return ratio * ratio if sgd.nesterov else ratio


@contextlib.contextmanager
def _changed(sgd, momentum, longest):
  before = sgd.momentum
  if momentum == before:
    yield
    return
  longer = (1.0 - momentum) / (1.0 - before)
  users = vars(sgd).get("update_step")
  update_step = sgd.update_step

  def longer_step(gradient, variable, learning_rate):
    # Keras casts it, too: a callable may return a whole number.
    learning_rate = keras.ops.cast(learning_rate, variable.dtype)
    rate = learning_rate * longer
    if longest is not None:
      allowed = tf.cast(longest, rate.dtype) * (1.0 - momentum)
      part = tf.math.divide_no_nan(allowed, rate)
      rate *= tf.clip_by_value(part, 1.0 / longer, 1.0)
    update_step(gradient, variable, rate)

  sgd.momentum, sgd.update_step = momentum, longer_step
  try:
    yield
  finally:
    sgd.momentum = before
    if users is None:
      del sgd.update_step
    else:
      sgd.update_step = users
