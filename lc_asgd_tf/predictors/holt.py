"""A cheap statistical loss predictor: Holt's linear trend."""

import keras
import tensorflow as tf

from lc_asgd_tf.predictors import forecast as forecast_lib
from lc_asgd_tf.predictors import loss_predictor
from lc_asgd_tf.predictors import trend as trend_lib

# How many reports to see before the trend means anything.
_WARM_UP = 12


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class HoltLossPredictor(loss_predictor.LossPredictor):
  """Holt's linear trend on the log loss, by version (see `trend`)."""

  batch_size = 512

  def build(self, num_workers):
    """Creates the trend, float64."""
    self._num_workers = num_workers
    self._state = keras.Variable(
      trend_lib.INITIAL, dtype="float64", name="holt"
    )
    self._followed = keras.Variable(
      0, dtype="int64", trainable=False, name="followed"
    )
    # Report by report, in microseconds, so that no push waits for long; two
    # callers at once take no report twice.
    self._compiled_follow = tf.function(
      self._follow, jit_compile=True, autograph=False
    )

  def learn(self, rows, first, last):
    """Takes the reports one by one, in order of arrival."""
    self.follow(rows, first, last)

  def follow(self, rows, first, last):
    """Takes those that it has not taken yet."""
    self._compiled_follow(rows, first, last)

  def _follow(self, rows, first, last):
    first = tf.maximum(first, self._followed.value)
    first = tf.maximum(first, last - self.batch_size)
    trend = trend_lib.follow(
      self._trend(), rows, first, last, self._num_workers
    )
    self._state.assign(tf.stack(trend))
    self._followed.assign(tf.maximum(last, self._followed.value))

  def forecast(self, rows, now):
    """Returns the trend line."""
    del rows, now
    level, slope, origin, count = self._trend()
    followed = tf.cast(self._followed.value, tf.float64)
    drawn = tf.where(count >= _WARM_UP, followed, -1.0)
    return forecast_lib.Forecast(level, slope, origin, drawn)

  def _trend(self):
    return trend_lib.Trend(*tf.unstack(tf.convert_to_tensor(self._state.value)))

  @property
  def variables(self):
    """The trend, and how many reports it has seen."""
    return [self._state, self._followed]
