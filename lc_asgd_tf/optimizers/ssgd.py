"""SSGD."""

import keras

from lc_asgd_tf import compensation
from lc_asgd_tf.optimizers import rule_optimizer


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class SSGD(rule_optimizer.RuleOptimizer):
  """Synchronous SGD: one update per round of all workers.

      u <- mean of the M gradients at w

  Every round waits for its slowest worker, which virtual time shows. As a
  baseline it has no staleness at all.

  Source: standard synchronous data parallelism.

  Args:
    learning_rate: a float, a schedule or a callable.
    momentum: of SGD.
    nesterov: of SGD.
    num_workers: workers that `keras.Model.fit` simulates.
    delays: how long they take, an `lc_asgd_tf.delays.Delays`.
    seed: of the delays, if these are None.
    **kwargs: see `RuleOptimizer`.
  """

  RULE = compensation.Synchronous
