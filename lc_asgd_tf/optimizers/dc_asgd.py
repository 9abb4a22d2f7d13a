"""DC-ASGD, constant and adaptive."""

import keras

from lc_asgd_tf import compensation
from lc_asgd_tf.optimizers import rule_optimizer


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class DCASGD(rule_optimizer.RuleOptimizer):
  """Asynchronous SGD with delay compensation.

      adaptive:  MS <- rho MS + (1 - rho) g*g
                 u  <- g + lambda_0 / sqrt(MS + 1e-7) g*g*(w - w_m)
      constant:  u  <- g + lambda_0 g*g*(w - w_m)

  Source: Zheng et al., "Asynchronous Stochastic Gradient Descent with Delay
  Compensation", ICML 2017, arXiv 1609.08326 (DC-ASGD-a and DC-ASGD-c).

  Args:
    learning_rate: a float, a schedule or a callable.
    momentum: of SGD.
    nesterov: of SGD.
    num_workers: workers that `keras.Model.fit` simulates.
    delays: how long they take, an `lc_asgd_tf.delays.Delays`.
    seed: of the delays, if these are None.
    adaptive: DC-ASGD-a if True, DC-ASGD-c if False.
    lambda_0: the strength of the compensation, >= 0; None for the paper's: 2
      if adaptive, 0.04 if constant.
    decay: rho, in [0, 1); read if adaptive.
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
    *,
    adaptive: bool = True,
    lambda_0: float | None = None,
    decay: float = 0.95,
    **kwargs,
  ) -> None:
    if adaptive:
      rule = compensation.DelayCompensatedAdaptive(
        2.0 if lambda_0 is None else lambda_0, decay
      )
    else:
      rule = compensation.DelayCompensatedConstant(
        0.04 if lambda_0 is None else lambda_0
      )
    super().__init__(
      learning_rate,
      momentum,
      nesterov,
      num_workers,
      delays,
      seed,
      compensation=rule,
      **kwargs,
    )
    self.adaptive = adaptive
    self.decay = decay

  def get_config(self):
    """Returns the constructor's arguments, serialized."""
    return super().get_config() | {
      "adaptive": self.adaptive,
      "lambda_0": self.compensation.lambda_0,
      "decay": self.decay,
    }
