"""The networks and the data that every benchmarked system trains.

The same layers in the same order for Keras 3, tf_keras and PyTorch: a
residual network of 20 layers (He et al. 2015, section 4.2, with projections as
shortcuts); 20 dense layers of 64 units, whose steps are so short that the cost
of the cluster itself shows; and one hidden layer of 100,000 units, with weights
of 30 megabytes. Input: 8x8 gray images, 10 classes.
"""

import types

import numpy as np
from sklearn import datasets

NAMES = ("resnet20", "mlp20", "wide")

_IMAGE = (8, 8, 1)
_CLASSES = 10
_STAGES = (16, 32, 64)
_BLOCKS_PER_STAGE = 3
_DENSE_LAYERS = 20
_WIDTH = 64
_UNITS = 100_000


def digits() -> tuple[np.ndarray, np.ndarray]:
  """Returns scikit-learn's digits: images in [0, 1], NHWC, and labels."""
  digits = datasets.load_digits()
  images = (digits.images[..., np.newaxis] / 16).astype(np.float32)
  return images, digits.target.astype(np.int64)


def dataset(batch: int):
  """Returns the digits as an endless `tf.data.Dataset` of batches."""
  import tensorflow as tf

  data = tf.data.Dataset.from_tensor_slices(digits())
  return data.repeat().batch(batch, drop_remainder=True)


def keras_network(name: str, keras: types.ModuleType):
  """Returns a network of Keras 3 or of tf_keras, whichever is given."""
  layers = keras.layers
  inputs = keras.Input(_IMAGE)
  if name == "mlp20":
    x = layers.Flatten()(inputs)
    for _ in range(_DENSE_LAYERS - 1):
      x = layers.Dense(_WIDTH, "relu")(x)
    return keras.Model(inputs, layers.Dense(_CLASSES)(x))
  if name == "wide":
    x = layers.Dense(_UNITS, "relu")(layers.Flatten()(inputs))
    return keras.Model(inputs, layers.Dense(_CLASSES)(x))

  def convolve(x, filters, size, strides=1):
    x = layers.Conv2D(
      filters, size, strides=strides, padding="same", use_bias=False
    )(x)
    return layers.BatchNormalization(momentum=0.9)(x)

  x = layers.ReLU()(convolve(inputs, _STAGES[0], 3))
  for stage, filters in enumerate(_STAGES):
    for block in range(_BLOCKS_PER_STAGE):
      strides = 2 if stage and not block else 1
      y = layers.ReLU()(convolve(x, filters, 3, strides))
      y = convolve(y, filters, 3)
      if strides == 2:
        x = convolve(x, filters, 1, strides)
      x = layers.ReLU()(layers.Add()([x, y]))
  x = layers.GlobalAveragePooling2D()(x)
  return keras.Model(inputs, layers.Dense(_CLASSES)(x))


def num_weights(name: str) -> int:
  """Returns the number of trainable weights."""
  import keras

  return sum(
    v.shape.num_elements()
    for v in keras_network(name, keras).trainable_variables
  )


def torch_network(name: str):
  """Returns the same network of PyTorch, for images in NCHW."""
  from torch import nn

  if name == "mlp20":
    parts = [nn.Flatten()]
    width = int(np.prod(_IMAGE))
    for _ in range(_DENSE_LAYERS - 1):
      parts += [nn.Linear(width, _WIDTH), nn.ReLU()]
      width = _WIDTH
    return nn.Sequential(*parts, nn.Linear(width, _CLASSES))
  if name == "wide":
    width = int(np.prod(_IMAGE))
    return nn.Sequential(
      nn.Flatten(),
      nn.Linear(width, _UNITS),
      nn.ReLU(),
      nn.Linear(_UNITS, _CLASSES),
    )

  def convolve(channels, filters, size, stride=1):
    return nn.Sequential(
      nn.Conv2d(channels, filters, size, stride, size // 2, bias=False),
      nn.BatchNorm2d(filters, momentum=0.1),
    )

  class Block(nn.Module):
    def __init__(self, channels, filters, stride):
      super().__init__()
      self.first = convolve(channels, filters, 3, stride)
      self.second = convolve(filters, filters, 3)
      self.shortcut = nn.Identity()
      if stride == 2:
        self.shortcut = convolve(channels, filters, 1, stride)

    def forward(self, x):
      y = self.second(self.first(x).relu())
      return (self.shortcut(x) + y).relu()

  parts = [convolve(_IMAGE[-1], _STAGES[0], 3), nn.ReLU()]
  channels = _STAGES[0]
  for stage, filters in enumerate(_STAGES):
    for block in range(_BLOCKS_PER_STAGE):
      parts.append(Block(channels, filters, 2 if stage and not block else 1))
      channels = filters
  parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
  return nn.Sequential(*parts, nn.Linear(channels, _CLASSES))
