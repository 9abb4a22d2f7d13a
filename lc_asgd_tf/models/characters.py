"""A character model: which character comes next?"""

from collections.abc import Sequence

import keras
from keras import layers

from lc_asgd_tf import errors

_FEATURES = 16
_UNITS = 128


def characters(input_shape: Sequence[int], num_classes: int) -> keras.Model:
  """Builds an embedding of each character and one hidden layer.

  Source: Bengio, Ducharme, Vincent, Jauvin, "A Neural Probabilistic Language
  Model", JMLR 2003, for characters in place of words.

  Args:
    input_shape: `(length,)` of the context, of numbers below `num_classes`.
    num_classes: size of the alphabet.

  Returns:
    A model from contexts, int32 of shape `(batch, length)`, to logits, float32
    of shape `(batch, num_classes)`.

  Raises:
    UserError: if the input is not a sequence.
  """
  if len(input_shape) != 1:
    raise errors.UserError(
      "a character model needs contexts (length,), not inputs of shape"
      f" {tuple(input_shape)}"
    )
  inputs = keras.Input(input_shape, dtype="int32", name="context")
  x = layers.Embedding(num_classes, _FEATURES, name="embedding")(inputs)
  x = layers.Flatten(name="flatten")(x)
  x = layers.Dense(
    _UNITS, activation="relu", kernel_initializer="he_normal", name="hidden"
  )(x)
  logits = layers.Dense(
    num_classes, kernel_initializer="he_normal", dtype="float32", name="logits"
  )(x)
  return keras.Model(inputs, logits, name="characters")
