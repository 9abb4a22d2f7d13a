"""Residual networks for small images.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition",
2015, arXiv 1512.03385, section 4.2 (the networks for CIFAR-10).
"""

from collections.abc import Sequence

import keras
from keras import layers

from lc_asgd_tf import errors

_STAGES = (16, 32, 64)  # Filters; each stage after the first halves the image.
_LAYERS_PER_BLOCK = 2


def residual_network(
  depth: int, input_shape: Sequence[int], num_classes: int
) -> keras.Model:
  """Builds the residual network of section 4.2 with `depth = 6 n + 2`.

  A 3x3 convolution, three stages of n basic blocks with 16, 32 and 64 filters,
  global average pooling and a linear layer. Where a stage begins with fewer
  pixels and more filters, the shortcut is the paper's option A: every second
  pixel, and zeros for the new filters; it has no weights. Convolutions have no
  bias, since batch normalization follows each, and start from He-normal. They
  pad as Keras does, an image of even size at its end only, so that those of
  stride 2 look one pixel further than the shortcut beside them.

  The paper's weight decay, 1e-4, is left to the optimizer; Keras's is not
  multiplied by momentum, so that with momentum 0.9 it takes 1e-3. Batch
  normalization uses momentum 0.9 in place of Keras's 0.99, which at small batch
  counts would still remember the initial statistics when the network is first
  tested.

  Args:
    depth: number of layers with weights: 8, 14, 20, 26, ...
    input_shape: `(height, width, channels)` of the images.
    num_classes: number of classes.

  Returns:
    A model from images of shape `(batch, height, width, channels)` to logits,
    float32 of shape `(batch, num_classes)`, without a softmax: losses need
    `from_logits=True`. It is named `resnet{depth}`.

  Raises:
    UserError: if no network has this depth, or the input is not an image.
  """
  blocks_per_stage, rest = divmod(depth - 2, len(_STAGES) * _LAYERS_PER_BLOCK)
  if blocks_per_stage < 1 or rest:
    raise errors.UserError(
      f"a residual network has 6n + 2 layers (8, 14, 20, ...), not {depth}"
    )
  if len(input_shape) != 3:
    raise errors.UserError(
      "a residual network needs images (height, width, channels), not inputs"
      f" of shape {tuple(input_shape)}"
    )
  inputs = keras.Input(input_shape, name="image")
  x = _convolve(inputs, _STAGES[0], strides=1, name="stem")
  x = layers.ReLU(name="stem_relu")(x)
  for stage, filters in enumerate(_STAGES):
    for block in range(blocks_per_stage):
      strides = 2 if stage > 0 and block == 0 else 1
      name = f"stage{stage + 1}_block{block + 1}"
      x = _basic_block(x, filters, strides=strides, name=name)
  x = layers.GlobalAveragePooling2D(name="pool")(x)
  # Float32 under a mixed-precision policy, too: losses are taken of these.
  logits = layers.Dense(
    num_classes, kernel_initializer="he_normal", dtype="float32", name="logits"
  )(x)
  return keras.Model(inputs, logits, name=f"resnet{depth}")


def resnet20(
  input_shape: Sequence[int] = (32, 32, 3), num_classes: int = 10
) -> keras.Model:
  """Builds ResNet-20: `residual_network` with three blocks per stage.

  Args:
    input_shape: `(height, width, channels)` of the images.
    num_classes: number of classes.

  Returns:
    A model from images to logits, float32 of shape `(batch, num_classes)`;
    269,722 trainable weights for CIFAR-10.
  """
  return residual_network(20, input_shape, num_classes)


def resnet8(
  input_shape: Sequence[int] = (8, 8, 1), num_classes: int = 10
) -> keras.Model:
  """Builds ResNet-8: `residual_network` with one block per stage.

  The smallest network of the family, for images as small as 8x8, which it
  reduces to 2x2 before pooling.

  Args:
    input_shape: `(height, width, channels)` of the images.
    num_classes: number of classes.

  Returns:
    A model from images to logits, float32 of shape `(batch, num_classes)`.
  """
  return residual_network(8, input_shape, num_classes)


def _basic_block(
  x: keras.KerasTensor, filters: int, *, strides: int, name: str
) -> keras.KerasTensor:
  """`relu(shortcut(x) + F(x))`, F being two 3x3 convolutions."""
  residual = _convolve(x, filters, strides=strides, name=f"{name}_a")
  residual = layers.ReLU(name=f"{name}_a_relu")(residual)
  residual = _convolve(residual, filters, strides=1, name=f"{name}_b")
  shortcut = _shortcut(x, filters, strides)
  x = layers.Add(name=f"{name}_add")([shortcut, residual])
  return layers.ReLU(name=f"{name}_relu")(x)


def _convolve(
  x: keras.KerasTensor, filters: int, *, strides: int, name: str
) -> keras.KerasTensor:
  """A 3x3 convolution and its batch normalization."""
  x = layers.Conv2D(
    filters,
    kernel_size=3,
    strides=strides,
    padding="same",
    use_bias=False,
    kernel_initializer="he_normal",
    name=f"{name}_conv",
  )(x)
  return layers.BatchNormalization(
    momentum=0.9, epsilon=1e-5, name=f"{name}_norm"
  )(x)


def _shortcut(
  x: keras.KerasTensor, filters: int, strides: int
) -> keras.KerasTensor:
  """The input itself, subsampled and padded with zero filters (option A)."""
  if strides > 1:
    x = x[:, ::strides, ::strides, :]
  missing = filters - x.shape[-1]
  if missing:
    x = keras.ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, missing)))
  return x
