"""Gap-Aware SGD."""

import keras

from lc_asgd_tf import compensation
from lc_asgd_tf.optimizers import rule_optimizer


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class GapAwareSGD(rule_optimizer.RuleOptimizer):
  """Asynchronous SGD whose gradients count less, the further w has moved.

      u <- g / (1 + abs(w - w_m) / C)

  elementwise, where C is the RMS of the latest step.

  Source: Barkai, Hakimi, Schuster, ICLR 2020, arXiv 1909.10802.

  Args:
    learning_rate: a float, a schedule or a callable.
    momentum: of SGD.
    nesterov: of SGD.
    num_workers: workers that `keras.Model.fit` simulates.
    delays: how long they take, an `lc_asgd_tf.delays.Delays`.
    seed: of the delays, if these are None.
    **kwargs: see `RuleOptimizer`.
  """

  RULE = compensation.GapAware
