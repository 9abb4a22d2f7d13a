"""Keras's optimizers by name, as flags and comparisons know them."""

import functools
from typing import Any

import keras


def create(
  name: str,
  learning_rate: float,
  momentum: float = 0.0,
  nesterov: bool = False,
  **arguments: Any,
) -> keras.optimizers.Optimizer:
  """Returns an inner optimizer.

  Args:
    name: "sgd", "adam" or "adamw".
    learning_rate: its learning rate.
    momentum: of SGD; the others have their own.
    nesterov: of SGD.
    **arguments: what all of Keras's optimizers take.

  Raises:
    KeyError: if there is no such name.
  """
  sgd = functools.partial(
    keras.optimizers.SGD, momentum=momentum, nesterov=nesterov
  )
  classes = {
    "sgd": sgd,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
  }
  return classes[name](learning_rate, **arguments)
