"""Keras optimizers: the common base, and one small class per rule."""

from lc_asgd_tf.optimizers.asgd import ASGD
from lc_asgd_tf.optimizers.async_optimizer import AsyncOptimizer
from lc_asgd_tf.optimizers.dana import DANA
from lc_asgd_tf.optimizers.dc_asgd import DCASGD
from lc_asgd_tf.optimizers.gap_aware_sgd import GapAwareSGD
from lc_asgd_tf.optimizers.lc_asgd import LCASGD
from lc_asgd_tf.optimizers.ssgd import SSGD
from lc_asgd_tf.optimizers.staleness_aware_sgd import StalenessAwareSGD

__all__ = (
  "ASGD",
  "DANA",
  "DCASGD",
  "LCASGD",
  "SSGD",
  "AsyncOptimizer",
  "GapAwareSGD",
  "StalenessAwareSGD",
)
