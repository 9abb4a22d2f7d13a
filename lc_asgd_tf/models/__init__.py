"""Reference networks, all of which return logits."""

from lc_asgd_tf.models.mlp import mlp
from lc_asgd_tf.models.registry import NAMES, create
from lc_asgd_tf.models.resnet import residual_network, resnet8, resnet20

__all__ = ["NAMES", "create", "mlp", "residual_network", "resnet20", "resnet8"]
