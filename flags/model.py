"""Flags of the model."""

import dataclasses

from absl import flags


@dataclasses.dataclass(frozen=True)
class ModelOptions:
  """What the flags of this group say.

  Attributes:
    model: name of a reference network, or path of a saved Keras model.
  """

  model: str


def define() -> None:
  """Registers the flags of this group."""
  flags.DEFINE_string(
    "model",
    "resnet8",
    "mlp or deep_mlp for any data, convolutional, resnet8 or resnet20 for "
    "images, characters for text, or the path of a .keras file whose model "
    "returns logits.",
  )


def read() -> ModelOptions:
  """Returns the parsed flags of this group."""
  return ModelOptions(model=flags.FLAGS.model)
