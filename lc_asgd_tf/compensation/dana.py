"""DANA: a momentum per worker, and a look ahead along all of them."""

import keras
import tensorflow as tf

from lc_asgd_tf import arguments
from lc_asgd_tf.compensation import compensation


def velocity_update(
  velocity: tf.Tensor, gradient: tf.Tensor, momentum: float
) -> tf.Tensor:
  """Returns v_m <- mu v_m + g.

  Args:
    velocity: v_m of the worker that pushes, any shape.
    gradient: g, same shape.
    momentum: mu.
  """
  return momentum * velocity + gradient


def look_ahead(
  weights: tf.Tensor,
  total_velocity: tf.Tensor,
  learning_rate: tf.Tensor,
  momentum: float,
) -> tf.Tensor:
  """Returns what a worker pulls: w - lr mu sum_j v_j.

  Args:
    weights: w, any shape.
    total_velocity: the sum of all workers' v_j, same shape.
    learning_rate: lr, shape=().
    momentum: mu.
  """
  learning_rate = tf.cast(learning_rate, weights.dtype)
  return weights - learning_rate * momentum * total_velocity


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class LookAhead(compensation.Compensation):
  """v_m <- mu v_m + g;  u <- v_m;  a pull returns w - lr mu sum_j v_j.

  The inner optimizer should be SGD without momentum of its own.

  Source: Hakimi, Barkai, Gabel, Schuster, "Taming Momentum in a Distributed
  Asynchronous Environment", arXiv 1907.11612 (DANA-Zero).

  Args:
    momentum: mu, in [0, 1).
  """

  elementwise = True

  def __init__(self, momentum: float = 0.9) -> None:
    self.worker_momentum = arguments.check_decay("momentum", momentum)

  def compensate(self, gradient, displacement, second_moment, coefficients):
    """Returns g: the server has put the worker's v_m in its place."""
    del displacement, second_moment, coefficients
    return gradient

  def get_config(self):
    """Returns the constructor's arguments."""
    return {"momentum": self.worker_momentum}
