"""The forecast to beat: the loss stays as it is."""

import keras
import tensorflow as tf

from lc_asgd_tf.predictors import forecast as forecast_lib
from lc_asgd_tf.predictors import holt


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class PersistenceLossPredictor(holt.HoltLossPredictor):
  """Predicts the recent level of the log loss, for ever.

  The level is that of `HoltLossPredictor`; the slope is 0, hence Delta is 0: no
  loss is ever predicted to change. A control.
  """

  def forecast(self, rows, now):
    """Returns a flat line."""
    line = super().forecast(rows, now)
    level, trend, origin, _ = line
    level += trend * (tf.cast(now, tf.float64) - origin)
    return forecast_lib.Forecast(
      level, tf.zeros_like(trend), tf.cast(now, tf.float64), line.drawn
    )
