"""Copies of a model's variables, which lie where the server lies."""

from collections.abc import Iterable, Sequence

import keras
import tensorflow as tf


def clone(variable: keras.Variable) -> keras.Variable:
  """Returns a variable of the same value on the current device.

  It is named by the whole path, which is unique and which the names of the
  inner optimizer's slots begin with, there as here.
  """
  copy = keras.Variable(
    value(variable), dtype=variable.dtype, name=slot_prefix(variable)
  )
  copy.constraint = variable.constraint
  return copy


def value(variable: keras.Variable) -> tf.Tensor:
  """Returns a variable's value, or zeros where it has none yet."""
  # Keras creates variables while it traces, and gives them a value later.
  if variable.value.is_initialized():
    return tf.convert_to_tensor(variable.value)
  return tf.zeros(variable.shape, variable.dtype)


def slot_prefix(variable: keras.Variable) -> str:
  """Returns what the names of a variable's slots begin with in Keras."""
  return variable.path.replace("/", "_")


def keyed(
  state: Sequence[keras.Variable], prefixes: Iterable[str]
) -> list[tuple[str, keras.Variable]]:
  """Returns an optimizer's variables, each behind its key, there as here.

  The key is its name if it belongs to a weight. Of the others, iterations and
  the like, Keras does not name all, but creates them in the same order.

  Args:
    state: the optimizer's variables.
    prefixes: what the names of the weights' slots begin with.
  """
  prefixes = tuple(f"{prefix}_" for prefix in prefixes)
  pairs, shared = [], 0
  for variable in state:
    key = variable.name
    if not key.startswith(prefixes):
      key = f"shared/{shared}"
      shared += 1
    pairs.append((key, variable))
  return pairs
