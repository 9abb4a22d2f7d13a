"""Asynchronous SGD for Keras that compensates delayed gradients."""

from lc_asgd_tf import (
  callbacks,
  cluster,
  compensation,
  delays,
  layers,
  predictors,
)
from lc_asgd_tf.optimizers import (
  ASGD,
  DANA,
  DCASGD,
  LCASGD,
  SSGD,
  AsyncOptimizer,
  GapAwareSGD,
  StalenessAwareSGD,
)
from lc_asgd_tf.parameter_server import AsyncTrainer
from lc_asgd_tf.version import __version__

__all__ = (
  "ASGD",
  "DANA",
  "DCASGD",
  "LCASGD",
  "SSGD",
  "AsyncOptimizer",
  "AsyncTrainer",
  "GapAwareSGD",
  "StalenessAwareSGD",
  "__version__",
  "callbacks",
  "cluster",
  "compensation",
  "delays",
  "layers",
  "predictors",
)
