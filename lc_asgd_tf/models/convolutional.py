"""A convolutional network without normalization."""

from collections.abc import Sequence

import keras
from keras import layers

from lc_asgd_tf import errors

_FILTERS = (16, 32, 64)


def convolutional(input_shape: Sequence[int], num_classes: int) -> keras.Model:
  """Builds three strided 3x3 convolutions and a linear layer.

  Nothing normalizes the activations, so that large steps can make it diverge.

  Args:
    input_shape: `(height, width, channels)` of the images.
    num_classes: number of classes.

  Returns:
    A model from images to logits, float32 of shape `(batch, num_classes)`.

  Raises:
    UserError: if the input is not an image.
  """
  if len(input_shape) != 3:
    raise errors.UserError(
      "a convolutional network needs images (height, width, channels), not"
      f" inputs of shape {tuple(input_shape)}"
    )
  inputs = keras.Input(input_shape, name="image")
  x = inputs
  for number, filters in enumerate(_FILTERS, start=1):
    x = layers.Conv2D(
      filters,
      kernel_size=3,
      strides=2,
      padding="same",
      activation="relu",
      kernel_initializer="he_normal",
      name=f"convolution{number}",
    )(x)
  x = layers.Flatten(name="flatten")(x)
  logits = layers.Dense(
    num_classes, kernel_initializer="he_normal", dtype="float32", name="logits"
  )(x)
  return keras.Model(inputs, logits, name="convolutional")
