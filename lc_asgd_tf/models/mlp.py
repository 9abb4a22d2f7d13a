"""Fully connected networks."""

from collections.abc import Sequence

import keras
from keras import layers


def mlp(
  input_shape: Sequence[int],
  num_classes: int,
  hidden: Sequence[int] = (64, 64),
  activation: str = "relu",
  name: str = "mlp",
) -> keras.Model:
  """Builds a multilayer perceptron.

  The input is flattened; weights start from He-normal, biases from zero.

  Args:
    input_shape: shape of one input, without the batch.
    num_classes: number of classes.
    hidden: number of units of each hidden layer; empty for a linear classifier.
    activation: name of the Keras activation of the hidden layers.
    name: of the model.

  Returns:
    A model from inputs of shape `(batch, *input_shape)` to logits, float32 of
    shape `(batch, num_classes)`, without a softmax: losses need
    `from_logits=True`.
  """
  inputs = keras.Input(input_shape, name="input")
  x = layers.Flatten(name="flatten")(inputs)
  for number, units in enumerate(hidden, start=1):
    x = layers.Dense(
      units,
      activation=activation,
      kernel_initializer="he_normal",
      name=f"hidden{number}",
    )(x)
  # Float32 under a mixed-precision policy, too: losses are taken of these.
  logits = layers.Dense(
    num_classes, kernel_initializer="he_normal", dtype="float32", name="logits"
  )(x)
  return keras.Model(inputs, logits, name=name)


def deep_mlp(input_shape: Sequence[int], num_classes: int) -> keras.Model:
  """Builds an `mlp` of four hidden layers of 64 units.

  Args:
    input_shape: shape of one input, without the batch.
    num_classes: number of classes.

  Returns:
    A model from inputs to logits, float32 of shape `(batch, num_classes)`.
  """
  return mlp(input_shape, num_classes, hidden=(64,) * 4, name="deep_mlp")
