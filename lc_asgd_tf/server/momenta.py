"""Less momentum for a single push, at steps that are as long."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from lc_asgd_tf.server import learning_rates


@contextlib.contextmanager
def reduced(
  optimizer: keras.optimizers.Optimizer, momentum: Callable[[float], float]
) -> Iterator[None]:
  """Changes the momentum of SGD inside of a `with`, and nothing else.

  A gradient moves the weights by lr / (1 - beta) in all, which stays as it is:
  with less momentum, each step is longer. Weight decay and clipping are those
  of the learning rate as it was. Other optimizers are left alone, subclasses of
  SGD among them, which may do anything.

  Args:
    optimizer: whose momentum is meant.
    momentum: returns the momentum in place of another.
  """
  with contextlib.ExitStack() as changes:
    for owner in learning_rates.owners(optimizer):
      if type(owner) is keras.optimizers.SGD and owner.momentum:
        changes.enter_context(_changed(owner, momentum(owner.momentum)))
    yield


@contextlib.contextmanager
def _changed(sgd, momentum):
  before = sgd.momentum
  if momentum == before:
    yield
    return
  longer = (1.0 - momentum) / (1.0 - before)
  update_step = sgd.update_step

  @functools.wraps(update_step)
  def longer_step(gradient, variable, learning_rate):
    update_step(gradient, variable, tf.multiply(learning_rate, longer))

  sgd.momentum, sgd.update_step = momentum, longer_step
  try:
    yield
  finally:
    sgd.momentum = before
    del sgd.update_step
