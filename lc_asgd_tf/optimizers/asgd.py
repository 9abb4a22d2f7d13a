"""ASGD."""

import keras

from lc_asgd_tf import compensation
from lc_asgd_tf.optimizers import rule_optimizer


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class ASGD(rule_optimizer.RuleOptimizer):
  """Asynchronous SGD; late gradients are applied as they are.

      u <- g

  Source: Downpour SGD; Dean et al., "Large Scale Distributed Deep Networks",
  NIPS 2012.

  Args:
    learning_rate: a float, a schedule or a callable.
    momentum: of SGD.
    nesterov: of SGD.
    num_workers: workers that `keras.Model.fit` simulates.
    delays: how long they take, an `lc_asgd_tf.delays.Delays`.
    seed: of the delays, if these are None.
    **kwargs: see `RuleOptimizer`: `inner_optimizer`, `name`, `weight_decay`,
      `clipnorm` and the like.
  """

  RULE = compensation.Uncompensated
