"""Keras callbacks."""

from lc_asgd_tf.callbacks.server_checkpoint import ServerCheckpoint
from lc_asgd_tf.callbacks.server_weights import ServerWeights

__all__ = ("ServerCheckpoint", "ServerWeights")
