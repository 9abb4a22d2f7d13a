"""LC-ASGD: the predicted loss says how much curvature the delay met.

Everything here that goes past the abstract of Li, He, Ren, Mao (ICPP 2020) is
this project's reconstruction; the paper's full text was not available to it.
"""

import functools
from typing import NamedTuple

import keras
import tensorflow as tf

from lc_asgd_tf import arguments
from lc_asgd_tf.compensation import compensation, losses
from lc_asgd_tf.compensation import momentum as momentum_lib
from lc_asgd_tf.compensation import sums as sums_lib
from lc_asgd_tf.compensation import window as window_lib

# A weight whose gradient has always been zero keeps some curvature.
_EPSILON = 1e-7
# Half of r's word is taken where this much of the loss was promised.
_HALF_TRUST = 0.05

HORIZONS = ("observed", "predicted")


class Sums(NamedTuple):
  """The five sums over all weights; each shape=(), float32.

  Attributes:
    gd: g . d, the loss change that g promised of the displacement.
    dDd: d' D d.
    gDd: g' D d.
    DdDd: the squared norm of D d.
    gg: the squared norm of g.
  """

  gd: tf.Tensor
  dDd: tf.Tensor
  gDd: tf.Tensor
  DdDd: tf.Tensor
  gg: tf.Tensor


def bend(displacement: tf.Tensor, second_moment: tf.Tensor) -> tf.Tensor:
  """Returns D d, with D = diag(MS + 1e-7).

  MS is the diagonal of the Fisher information, which stands for the Hessian's;
  its scale cancels. D d is how the gradient bends along the displacement.
  DC-ASGD-a's g*g / sqrt(MS) is a single draw of what MS is the mean of.

  Args:
    displacement: d = w - w_m, any shape.
    second_moment: MS, already updated with g, same shape.
  """
  return (second_moment + _EPSILON) * displacement


def measure(
  gradient: tf.Tensor, displacement: tf.Tensor, bent: tf.Tensor
) -> tf.Tensor:
  """Returns one variable's share of `Sums`, shape=(5,), float32.

  Args:
    gradient: g, any shape.
    displacement: d = w - w_m, same shape.
    bent: D d, same shape.
  """
  g, d, Dd = (
    tf.cast(part, tf.float32) for part in (gradient, displacement, bent)
  )
  return _products_summed(tuple(g.shape))(g, d, Dd)


@functools.cache
def _products_summed(shape):
  """Returns the compiled function that makes `Sums` of g, d and D d."""
  del shape  # What is compiled for one shape is of no use for another.

  def sums(g, d, Dd):
    return sums_lib.totals(
      Sums(gd=g * d, dDd=d * Dd, gDd=g * Dd, DdDd=Dd * Dd, gg=g * g)
    )

  return tf.function(sums, jit_compile=True, autograph=False)


def delivered_ratio(gd: tf.Tensor, predicted_change: tf.Tensor) -> tf.Tensor:
  """Returns r = clip(Delta / g.d, 0, 1), how much of the promise was kept.

  r is 1 where g.d >= 0: nothing was promised, so nothing is compensated.

  Args:
    gd: g . d, shape=().
    predicted_change: Delta, shape=().
  """
  promised = tf.minimum(gd, -losses.TINY)
  ratio = tf.clip_by_value(predicted_change / promised, 0.0, 1.0)
  return tf.where(gd < 0.0, ratio, 1.0)


def trust(gd: tf.Tensor, typical_loss: tf.Tensor) -> tf.Tensor:
  """Returns s / (s + 0.05), where s = |g.d| / l: how far r is to be trusted.

  A small promise drowns in the noise of g and of the prediction, and a small
  displacement does little harm: there, the gradient is left alone rather than
  turned around.

  Args:
    gd: g . d, shape=().
    typical_loss: l, shape=(), in units of the loss.
  """
  promised = tf.abs(gd) / losses.floored(typical_loss)
  # Where the promise is infinite, all of it.
  trusted = 1.0 / (1.0 + tf.math.divide_no_nan(_HALF_TRUST, promised))
  return tf.where(promised > 0.0, trusted, 0.0)


def trusted_ratio(ratio: tf.Tensor, trusted: tf.Tensor) -> tf.Tensor:
  """Returns 1 - (1 - r) t: r, drawn towards 1 where it is not trusted.

  Args:
    ratio: r, shape=().
    trusted: t in [0, 1], shape=(); see `trust` and `caution`.
  """
  return 1.0 - (1.0 - ratio) * trusted


def caution(severity: tf.Tensor) -> tf.Tensor:
  """Returns x^2 / (1 + x^2): how far the rule steps in.

  Where delays do no harm, there is nothing to compensate and nothing to brake:
  what a rule does there, it does to noise.

  Args:
    severity: x >= 0, shape=(); see `window.severity`.
  """
  # Where it is infinite, all the way.
  return 1.0 - 1.0 / (1.0 + severity * severity)


def coefficients(
  sums: Sums,
  ratio: tf.Tensor,
  predicted_change: tf.Tensor,
  typical_loss: tf.Tensor,
  *,
  cap: bool = True,
  brake: float | tf.Tensor = 5.0,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns (a, b) of u = a g + b D d.

      c     = 2 (1 - r) max(-g.d, 0) / (d' D d + 1e-20)
      u     <- g + c D d
      u     <- u min(1, norm(g) / norm(u))                      (the norm cap)
      u     <- u / (1 + brake max(Delta, 0) / (l + 1e-3))          (the brake)

  The cap follows from the sums alone:
  norm(u)^2 = g.g + 2 c g'Dd + c^2 norm(Dd)^2.

  Args:
    sums: the sums over all weights.
    ratio: r in [0, 1], shape=().
    predicted_change: Delta, shape=(), in units of the loss.
    typical_loss: l, shape=(), in units of the loss.
    cap: whether u may never be longer than g.
    brake: how hard a predicted rise slows the update, shape=(); 0 turns it off.
  """
  c = 2.0 * (1.0 - ratio) * tf.maximum(-sums.gd, 0.0) / (sums.dDd + losses.TINY)
  squared_norm = sums.gg + 2.0 * c * sums.gDd + c * c * sums.DdDd
  # Where D vanishes or overflows there is no curvature to compensate by.
  finite = tf.math.is_finite(squared_norm)
  c = tf.where(finite, c, 0.0)
  scale = tf.ones_like(c)
  if cap:
    # Where u is no longer than g, it is left alone to the last bit.
    longer = finite & (squared_norm > sums.gg)
    shrink = tf.sqrt(tf.math.divide_no_nan(sums.gg, squared_norm))
    scale = tf.where(longer, shrink, 1.0)
  rise = tf.maximum(predicted_change, 0.0) / losses.floored(typical_loss)
  scale = scale / (1.0 + tf.math.multiply_no_nan(rise, brake))
  return scale, scale * c


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class LossCompensated(compensation.Compensation):
  """LC-ASGD: u <- a g + b D d, with a and b set by the predicted loss.

  The stale gradient promised that moving the weights by d = w - w_m would
  change the loss by g.d. If the loss predictor says that it changed by Delta
  instead, the difference is curvature along d. The surrogate

      s(w) = l + g.(w - w_m) + 1/2 lambda (w - w_m)' D (w - w_m),
      D    = diag(MS + 1e-7),    MS <- rho MS + (1 - rho) g*g

  is made to agree with the prediction, s(w_m + d) = l + Delta, which fixes
  lambda; its gradient at w is the compensated gradient. With the ratio
  r = clip(Delta / g.d, 0, 1): at r = 1 nothing changes, at r = 1/2 the part of
  g along d is removed, at r = 0 it is reflected. Where little was promised, r
  is drawn towards 1 (see `trust`). A norm cap and a brake follow (see
  `coefficients`), and a window scales the learning rate, so that all the
  updates on their way together promise no more than the loss can give (see
  `window`). Where delays do no harm, the rule keeps out of it (see `caution`).
  Of the momentum of SGD only what delays leave is kept, and steps become longer
  instead, as far as descent is stable (see `compensation.momentum`). A push
  whose gradient is not finite counts as zero.

  Source: reconstruction, from the abstract of Li, He, Ren, Mao, "Developing a
  Loss Prediction-based Asynchronous Stochastic Gradient Descent Algorithm for
  Distributed Training of Deep Neural Networks", ICPP 2020,
  doi 10.1145/3404397.3404432. MS is that of DC-ASGD-a (arXiv 1609.08326).

  Args:
    decay: rho of MS, in [0, 1).
    cap: whether u may never be longer than g.
    brake: how hard a predicted rise of the loss slows the update, >= 0.
    window: whether there is a window; without it, every update has its full
      strength, and nobody measures whether delays do harm: they are taken to.
    ratio: None to take r from the prediction, or a constant in [0, 1] as a
      control that ignores it.
    horizon: "observed" to predict the loss at the staleness that the push turns
      out to have, "predicted" at the one that the step predictor forecast when
      the worker pulled.
    keep_momentum: whether SGD keeps all of its momentum, however many workers
      there are.
  """

  elementwise = True
  uses_displacement = True
  measures = True

  def __init__(
    self,
    decay: float = 0.95,
    cap: bool = True,
    brake: float = 5.0,
    window: bool = True,
    ratio: float | None = None,
    horizon: str = "observed",
    keep_momentum: bool = False,
  ) -> None:
    if horizon not in HORIZONS:
      raise ValueError(
        f"horizon must be one of {', '.join(HORIZONS)}, got {horizon!r}."
      )
    self.second_moment_decay = arguments.check_decay("decay", decay)
    self.horizon = horizon
    self.cap = bool(cap)
    self.brake = arguments.check_not_negative("brake", brake)
    self.window = bool(window)
    self.ratio = ratio
    if ratio is not None:
      self.ratio = arguments.check_fraction("ratio", ratio)
    self.keep_momentum = bool(keep_momentum)

  @property
  def uses_prediction(self) -> bool:
    """Whether a loss predictor has anything to say to the rule."""
    return self.ratio is None or self.brake > 0 or self.window

  @property
  def initial_signals(self) -> tuple[float, ...]:
    """The window before the first push, if there is one."""
    return tuple(window_lib.INITIAL) if self.window else ()

  def bend(self, gradient, displacement, second_moment):
    """Returns D d of one variable."""
    del gradient
    return bend(displacement, second_moment)

  def measure(self, gradient, displacement, second_moment):
    """Returns one variable's share of `Sums`, shape=(5,)."""
    bent = self.bend(gradient, displacement, second_moment)
    return measure(gradient, displacement, bent)

  def observe(self, sums, arrival):
    """Returns the window after this push."""
    return tf.stack(
      window_lib.window_update(
        window_lib.read(arrival.signals),
        Sums(*tf.unstack(sums)).gd,
        arrival.loss,
        arrival.predicted_change,
        arrival.num_workers,
      )
    )

  def delivered_ratio(self, sums: Sums, arrival) -> tf.Tensor:
    """Returns r, as far as it is trusted, shape=()."""
    if self.ratio is not None:
      return tf.constant(self.ratio, tf.float32)
    ratio = delivered_ratio(sums.gd, arrival.predicted_change)
    ratio = trusted_ratio(ratio, trust(sums.gd, arrival.typical_loss))
    return trusted_ratio(ratio, self._caution(arrival))

  def _caution(self, arrival):
    """Returns how far to step in: all the way, if nobody measures."""
    if not self.window:
      return tf.constant(1.0)
    return caution(window_lib.severity(window_lib.read(arrival.signals)))

  def coefficients(self, sums, arrival):
    """Returns (a, b) of u = a g + b D d, the longest step, any T / M."""
    sums = Sums(*tf.unstack(sums))
    a, b = coefficients(
      sums,
      self.delivered_ratio(sums, arrival),
      arrival.predicted_change,
      arrival.typical_loss,
      cap=self.cap,
      brake=self.brake * self._caution(arrival),
    )
    longest = momentum_lib.longest_step(arrival.loss, sums.gg)
    if not self.window:
      return a, b, longest
    bound = window_lib.bound(sums.gd, arrival.loss)
    window = window_lib.read(arrival.signals)
    share = window_lib.share(window, arrival.num_workers)
    return bound * a, bound * b, longest, share

  def accepts(self, sums):
    """Returns whether g and what it promised are finite."""
    sums = Sums(*tf.unstack(sums))
    return tf.math.is_finite(sums.gd) & tf.math.is_finite(sums.gg)

  def compensate(self, gradient, displacement, second_moment, coefficients):
    """Returns u for one variable."""
    a, b = (tf.cast(c, gradient.dtype) for c in coefficients[:2])
    bent = self.bend(gradient, displacement, second_moment)
    # Where D d overflows, nothing is to be compensated, and b is 0.
    return a * gradient + tf.math.multiply_no_nan(bent, b)

  def rate_factor(self, coefficients):
    """Returns T / M, if there is a window."""
    return coefficients[3] if self.window else None

  def longest_step(self, coefficients):
    """Returns 4 l / |g|^2."""
    return coefficients[2]

  def explicit_momentum(self, momentum, num_workers):
    """Returns what delays leave of SGD's momentum."""
    if self.keep_momentum:
      return momentum
    return momentum_lib.explicit_momentum(momentum, num_workers)

  def get_config(self):
    """Returns the constructor's arguments."""
    return {
      "decay": self.second_moment_decay,
      "cap": self.cap,
      "brake": self.brake,
      "window": self.window,
      "ratio": self.ratio,
      "horizon": self.horizon,
      "keep_momentum": self.keep_momentum,
    }
