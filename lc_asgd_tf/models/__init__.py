"""Reference networks, all of which return logits."""

from lc_asgd_tf.models.characters import characters
from lc_asgd_tf.models.convolutional import convolutional
from lc_asgd_tf.models.mlp import deep_mlp, mlp
from lc_asgd_tf.models.registry import (
  NAMES,
  check_inputs,
  check_name,
  create,
  register,
)
from lc_asgd_tf.models.resnet import residual_network, resnet8, resnet20

__all__ = [
  "NAMES",
  "characters",
  "check_inputs",
  "check_name",
  "convolutional",
  "create",
  "deep_mlp",
  "mlp",
  "register",
  "residual_network",
  "resnet20",
  "resnet8",
]
