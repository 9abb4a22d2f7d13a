"""DC-ASGD: a first-order Taylor correction of the late gradient."""

import keras
import tensorflow as tf

from lc_asgd_tf import arguments
from lc_asgd_tf.compensation import compensation

# Keeps the square root away from zero; 1e-7 as in arXiv 1609.08326, section 6.
_EPSILON = 1e-7


def constant_update(
  gradient: tf.Tensor, displacement: tf.Tensor, lambda_0: float
) -> tf.Tensor:
  """Returns u = g + lambda g*g*d (DC-ASGD-c).

  Args:
    gradient: g, taken at the snapshot w_m; any shape.
    displacement: d = w - w_m, same shape.
    lambda_0: lambda, >= 0.
  """
  return gradient + lambda_0 * gradient * gradient * displacement


def adaptive_update(
  gradient: tf.Tensor,
  displacement: tf.Tensor,
  second_moment: tf.Tensor,
  lambda_0: float,
) -> tf.Tensor:
  """Returns u = g + lambda_0 / sqrt(MS + 1e-7) g*g*d (DC-ASGD-a).

  Args:
    gradient: g, taken at the snapshot w_m; any shape.
    displacement: d = w - w_m, same shape.
    second_moment: MS, already updated with g, same shape.
    lambda_0: >= 0.
  """
  lambda_t = lambda_0 * tf.math.rsqrt(second_moment + _EPSILON)
  return gradient + lambda_t * gradient * gradient * displacement


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class DelayCompensatedConstant(compensation.Compensation):
  """DC-ASGD-c: u <- g + lambda g*g*(w - w_m).

  Source: Zheng et al., "Asynchronous Stochastic Gradient Descent with Delay
  Compensation", ICML 2017, arXiv 1609.08326, equation 10. g*g stands for the
  diagonal of the Hessian; w_m is the snapshot of the worker that pushes.

  Args:
    lambda_0: lambda, >= 0.
  """

  elementwise = True
  uses_displacement = True

  def __init__(self, lambda_0: float = 0.04) -> None:
    self.lambda_0 = arguments.check_not_negative("lambda_0", lambda_0)

  def compensate(self, gradient, displacement, second_moment, coefficients):
    """Returns u for one variable."""
    del second_moment, coefficients
    return constant_update(gradient, displacement, self.lambda_0)

  def get_config(self):
    """Returns the constructor's arguments."""
    return {"lambda_0": self.lambda_0}


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class DelayCompensatedAdaptive(compensation.Compensation):
  """DC-ASGD-a: u <- g + lambda_0 / sqrt(MS + 1e-7) g*g*(w - w_m).

  Source: arXiv 1609.08326, equation 10 with the adaptive lambda of section 6:
  MS <- rho MS + (1 - rho) g*g, lambda_t = lambda_0 / sqrt(MS + 1e-7).

  Args:
    lambda_0: >= 0.
    decay: rho, in [0, 1).
  """

  elementwise = True
  uses_displacement = True

  def __init__(self, lambda_0: float = 2.0, decay: float = 0.95) -> None:
    self.lambda_0 = arguments.check_not_negative("lambda_0", lambda_0)
    self.second_moment_decay = arguments.check_decay("decay", decay)

  def compensate(self, gradient, displacement, second_moment, coefficients):
    """Returns u for one variable."""
    del coefficients
    return adaptive_update(gradient, displacement, second_moment, self.lambda_0)

  def get_config(self):
    """Returns the constructor's arguments."""
    return {"lambda_0": self.lambda_0, "decay": self.second_moment_decay}
