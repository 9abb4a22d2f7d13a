"""Staleness-aware ASGD."""

import keras

from lc_asgd_tf import compensation
from lc_asgd_tf.optimizers import rule_optimizer


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class StalenessAwareSGD(rule_optimizer.RuleOptimizer):
  """Asynchronous SGD whose gradients count less, the later they are.

      lr <- lr / max(tau, 1), for this update

  Source: Zhang, Gupta, Lian, Liu, arXiv 1511.05950.

  Args:
    learning_rate: a float, a schedule or a callable.
    momentum: of SGD.
    nesterov: of SGD.
    num_workers: workers that `keras.Model.fit` simulates.
    delays: how long they take, an `lc_asgd_tf.delays.Delays`.
    seed: of the delays, if these are None.
    **kwargs: see `RuleOptimizer`.
  """

  RULE = compensation.StalenessAware
