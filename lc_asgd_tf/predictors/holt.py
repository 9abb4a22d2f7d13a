"""A cheap statistical loss predictor: Holt's linear trend."""

import keras
import tensorflow as tf

from lc_asgd_tf.predictors import forecast as forecast_lib
from lc_asgd_tf.predictors import journal, loss_predictor

# How many reports to see before the trend means anything.
_WARM_UP = 12


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class HoltLossPredictor(loss_predictor.LossPredictor):
  """Holt's linear trend on the log loss y, by version.

  For a report (v, y), with e = y - (level + trend (v - origin)):

      level  <- level + trend (origin' - origin) + alpha e
      trend  <- trend + beta e
      origin <- origin' = max(origin, v)
      alpha  = min(0.2, 1 / (M / 2 + 4)),    beta = alpha^2 / 4

  beta makes the pair critically damped. Source: Holt 1957; that it is run by
  version and not by arrival is this project's choice, since reports arrive out
  of order.
  """

  batch_size = 64

  def build(self, num_workers):
    """Creates the state (level, trend, origin, count), float64."""
    self._alpha = min(0.2, 1.0 / (num_workers / 2 + 4))
    self._beta = self._alpha**2 / 4
    self._state = keras.Variable(
      tf.zeros([4], tf.float64), dtype="float64", name="holt"
    )

  def learn(self, rows, first, last):
    """Takes the reports one by one, in order of arrival."""
    first = tf.maximum(first, last - self.batch_size)

    def take(number, state):
      report = journal.read(rows, number)
      level, trend, origin, count = tf.unstack(state)
      y = forecast_lib.log_loss(report.loss)
      version = report.version
      error = y - (level + trend * (version - origin))
      newest = tf.maximum(origin, version)
      following = tf.stack(
        [
          level + trend * (newest - origin) + self._alpha * error,
          trend + self._beta * error,
          newest,
          count + 1.0,
        ]
      )
      beginning = tf.stack([y, tf.zeros_like(y), version, tf.ones_like(y)])
      following = tf.where(count > 0, following, beginning)
      return number + 1, tf.where(tf.math.is_finite(y), following, state)

    _, state = tf.while_loop(
      lambda number, _: number < last,
      take,
      (first, tf.convert_to_tensor(self._state.value)),
    )
    self._state.assign(state)

  def forecast(self, rows, now):
    """Returns the trend line."""
    del rows
    level, trend, origin, count = tf.unstack(
      tf.convert_to_tensor(self._state.value)
    )
    drawn = tf.where(count >= _WARM_UP, tf.cast(now, tf.float64), -1.0)
    return forecast_lib.Forecast(level, trend, origin, drawn)

  @property
  def variables(self):
    """The state."""
    return [self._state]
