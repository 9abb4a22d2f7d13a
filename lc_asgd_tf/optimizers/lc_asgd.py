"""LC-ASGD."""

import keras

from lc_asgd_tf import compensation
from lc_asgd_tf.optimizers import rule_optimizer


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class LCASGD(rule_optimizer.RuleOptimizer):
  """Asynchronous SGD that compensates by the predicted loss.

      Delta = predicted loss at w - predicted loss at w_m
      r     = clip(Delta / g.d, 0, 1)                  with d = w - w_m
      r     <- 1 - (1 - r) k s / (s + 0.05)            with s = abs(g.d) / l
      u     <- g + 2 (1 - r) max(-g.d, 0) / (d' D d) D d
      u     <- u min(1, norm(g) / norm(u))
      u     <- u / (1 + k brake max(Delta, 0) / l)
      u     <- u min(1, l / abs(g.d))
      beta' <- max(0, 1 - M (1 - beta))
      lr    <- lr T / M
      lr    <- clip(4 (1 - beta') l / g.g, lr, lr (1 - beta') / (1 - beta))

  with D = diag(MS), MS a moving average of g*g, and a window T in [1, M] that
  grows while the updates on their way promise no more than the loss can give.
  k = x^2 / (1 + x^2) is small where delays do no harm: x is the most that the
  updates of M workers at the whole learning rate would have promised so far,
  over what they may promise. beta is the momentum of `keras.optimizers.SGD`, in
  place of which it has beta' (a subclass keeps beta); where it makes one update
  of k pushes, with M / k in place of M.
  See `lc_asgd_tf.compensation.LossCompensated` for what it all means.

  The loss l must not be negative, as cross-entropy and squared errors are not:
  T stays 1 where it is. Add a constant to a loss that may fall below 0.

  Source: this is a reconstruction from the abstract of Li, He, Ren, Mao,
  "Developing a Loss Prediction-based Asynchronous Stochastic Gradient Descent
  Algorithm for Distributed Training of Deep Neural Networks", ICPP 2020,
  doi 10.1145/3404397.3404432; the formulas are not the paper's.

  Args:
    learning_rate: a float, a schedule or a callable.
    momentum: of SGD.
    nesterov: of SGD.
    num_workers: workers that `keras.Model.fit` simulates.
    delays: how long they take, an `lc_asgd_tf.delays.Delays`.
    seed: of the delays, if these are None.
    decay: rho of MS <- rho MS + (1 - rho) g*g, in [0, 1).
    cap: whether u may never be longer than g.
    brake: how hard a predicted rise of the loss slows the update, >= 0.
    window: whether there is a window.
    horizon: "observed" or "predicted" staleness to look ahead by.
    keep_momentum: whether SGD keeps all of its momentum, however many workers
      there are.
    loss_predictor: "lstm", "holt", "persistence" or an
      `lc_asgd_tf.predictors.LossPredictor`.
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
    decay: float = 0.95,
    cap: bool = True,
    brake: float = 5.0,
    window: bool = True,
    horizon: str = "observed",
    keep_momentum: bool = False,
    **kwargs,
  ) -> None:
    super().__init__(
      learning_rate,
      momentum,
      nesterov,
      num_workers,
      delays,
      seed,
      compensation=compensation.LossCompensated(
        decay=decay,
        cap=cap,
        brake=brake,
        window=window,
        horizon=horizon,
        keep_momentum=keep_momentum,
      ),
      **kwargs,
    )

  def get_config(self):
    """Returns the constructor's arguments, serialized."""
    rule = self.compensation.get_config()
    del rule["ratio"]
    return super().get_config() | rule
