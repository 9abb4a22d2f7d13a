"""The published forecast of the loss: a line in the logarithm of the loss.

A predictor trains at its own pace; its latest forecast is four numbers, which a
push evaluates, and may bring up to date, without ever waiting for the training.
"""

from typing import NamedTuple

import tensorflow as tf

# l + 1e-3 keeps the logarithm of a vanishing loss finite.
_LOSS_FLOOR = 1e-3
# How far a forecast of the log loss may lie above both 0 and its level, and
# where it ends in any case, since float32 does a little later.
_MAX_RISE = 3.0
_MAX_LOG_LOSS = 80.0


class Forecast(NamedTuple):
  """yhat(v) = level + slope (v - origin); each shape=(), float64.

  Attributes:
    level: the log loss at version `origin`.
    slope: the change of the log loss per version.
    origin: a version.
    drawn: the server's version when the line was drawn; -1 if the predictor
      has not seen enough to draw one.
  """

  level: tf.Tensor
  slope: tf.Tensor
  origin: tf.Tensor
  drawn: tf.Tensor


def is_ready(forecast: Forecast) -> tf.Tensor:
  """Returns whether there is a forecast, shape=(), bool."""
  return forecast.drawn >= 0


def log_loss(loss: tf.Tensor) -> tf.Tensor:
  """Returns y = log(l + 1e-3); negative losses count as 0."""
  return tf.math.log(tf.maximum(loss, 0.0) + _LOSS_FLOOR)


def predicted_loss(
  forecast: Forecast, version: tf.Tensor, now: tf.Tensor
) -> tf.Tensor:
  """Returns exp(yhat(version - (now - drawn))), shape=(), float32.

  It is bounded by e^3 max(exp(level), 1), lest a line that rises end in an
  absurd number.

  A line that was drawn a while ago is moved along to the present rather than
  extrapolated: predictors learn to look ahead by a staleness, not by the time
  that they lag behind the pushes.

  Args:
    forecast: the line.
    version: the version whose loss is asked for, shape=().
    now: the server's version, shape=().
  """
  ahead = tf.cast(version, tf.float64) - tf.cast(now, tf.float64)
  steps = forecast.drawn + ahead - forecast.origin
  log = forecast.level + forecast.slope * steps
  most = tf.maximum(forecast.level, 0.0) + _MAX_RISE
  log = tf.minimum(log, tf.minimum(most, _MAX_LOG_LOSS))
  return tf.cast(tf.exp(log), tf.float32)


def predicted_change(
  forecast: Forecast, start: tf.Tensor, end: tf.Tensor, now: tf.Tensor
) -> tf.Tensor:
  """Returns Delta = predicted loss at `end` - that at `start`, shape=().

  Both ends are the model's: the difference between a prediction and a raw
  minibatch loss would be mostly the noise of the minibatch. 0 until the
  predictor is ready. float32, in units of the loss.
  """
  change = predicted_loss(forecast, end, now) - predicted_loss(
    forecast, start, now
  )
  return tf.where(is_ready(forecast), change, tf.zeros_like(change))
