"""Keras callbacks."""

from lc_asgd_tf.callbacks.plain_batch_normalization import (
  PlainBatchNormalization,
)
from lc_asgd_tf.callbacks.precise_batch_normalization import (
  PreciseBatchNormalization,
)
from lc_asgd_tf.callbacks.server_checkpoint import ServerCheckpoint
from lc_asgd_tf.callbacks.server_weights import ServerWeights
from lc_asgd_tf.callbacks.trace_recorder import TraceRecorder

__all__ = (
  "PlainBatchNormalization",
  "PreciseBatchNormalization",
  "ServerCheckpoint",
  "ServerWeights",
  "TraceRecorder",
)
