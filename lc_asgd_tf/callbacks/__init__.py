"""Keras callbacks."""

from lc_asgd_tf.callbacks.server_checkpoint import ServerCheckpoint

__all__ = ("ServerCheckpoint",)
