"""Async-BN and other state that is not trained by gradients."""

from lc_asgd_tf.normalization.async_bn import (
  Kind,
  classify,
  contribution,
  merge,
  worker_seed,
)
from lc_asgd_tf.normalization.counting_scope import CountingScope

__all__ = (
  "CountingScope",
  "Kind",
  "classify",
  "contribution",
  "merge",
  "worker_seed",
)
