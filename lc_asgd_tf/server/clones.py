"""Copies of a model's variables, which lie where the server lies."""

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
