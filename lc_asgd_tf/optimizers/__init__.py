"""Keras optimizers: the common base, and one small class per rule."""

from lc_asgd_tf.optimizers.asgd import ASGD
from lc_asgd_tf.optimizers.async_optimizer import AsyncOptimizer
from lc_asgd_tf.optimizers.dc_asgd import DCASGD
from lc_asgd_tf.optimizers.lc_asgd import LCASGD
from lc_asgd_tf.optimizers.staleness_aware_sgd import StalenessAwareSGD

__all__ = ("ASGD", "DCASGD", "LCASGD", "AsyncOptimizer", "StalenessAwareSGD")
