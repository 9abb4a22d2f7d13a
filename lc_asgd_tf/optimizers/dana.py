"""DANA."""

import keras

from lc_asgd_tf import compensation
from lc_asgd_tf.optimizers import rule_optimizer


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class DANA(rule_optimizer.RuleOptimizer):
  """Asynchronous SGD with a momentum per worker and a look ahead.

      v_m <- mu v_m + g,    w <- w - lr v_m
      pull: w - lr mu sum_j v_j

  Source: Hakimi, Barkai, Gabel, Schuster, arXiv 1907.11612 (DANA-Zero).

  Args:
    learning_rate: a float, a schedule or a callable.
    momentum: mu of every worker, in [0, 1).
    nesterov: must be False; DANA looks ahead by itself.
    num_workers: workers that `keras.Model.fit` simulates. With one there is no
      server and no momentum: this is plain SGD.
    delays: how long they take, an `lc_asgd_tf.delays.Delays`.
    seed: of the delays, if these are None.
    **kwargs: see `RuleOptimizer`.
  """

  def __init__(
    self,
    learning_rate=0.01,
    momentum=0.0,
    nesterov=False,
    num_workers=1,
    delays=None,
    seed=0,
    **kwargs,
  ) -> None:
    if nesterov:
      raise ValueError("DANA looks ahead by itself: leave nesterov=False.")
    super().__init__(
      learning_rate,
      0.0,
      False,
      num_workers,
      delays,
      seed,
      compensation=compensation.LookAhead(momentum),
      **kwargs,
    )

  def get_config(self):
    """Returns the constructor's arguments, serialized."""
    momentum = self.compensation.worker_momentum
    return super().get_config() | {"momentum": momentum}
