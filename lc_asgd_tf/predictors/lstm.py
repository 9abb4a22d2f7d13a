"""The default loss predictor: a Keras LSTM, trained online."""

import keras
import tensorflow as tf

from lc_asgd_tf.predictors import forecast as forecast_lib
from lc_asgd_tf.predictors import journal, loss_predictor, recurrent

_CLIP = 2.0


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class LSTMLossPredictor(
  recurrent.RecurrentPredictor, loss_predictor.LossPredictor
):
  """An LSTM over the last reports, with a head linear in the horizon.

  From the last `window` reports (v_i, y_i), y the log loss:

      inputs  x_i = (y_i - mean, (v_i - v_{i-1}) / M)
      output  yhat(v) = mean + A(h) + S(h) (v - v_last) / M

  A report (v_m, y) of a worker that pulled version v_m is a training example
  whose inputs are the reports that had arrived by then: rows [0, v_m). The
  squared residual, clipped at 2, is minimised by Adam with the gradient's norm
  clipped at 1.

  Source: the paper's abstract says that such models live on the server and
  learn online from the workers' losses; the network is a reconstruction.

  Args:
    units: size of the LSTM.
    window: reports per input, and how many must have arrived before the
      predictor says anything.
    learning_rate: Adam's.
    batch_size: how many reports one training step takes together.
    seed: of the network's initial weights.
  """

  def __init__(
    self,
    units: int = 32,
    window: int = 12,
    learning_rate: float = 2e-3,
    batch_size: int = 32,
    seed: int = 0,
  ) -> None:
    super().__init__(units, window, learning_rate, batch_size, seed)

  def build(self, num_workers):
    """Creates the network and its optimizer's state."""
    self._num_workers = num_workers
    # A tenth of Glorot's scale: the first forecasts are close to the mean of
    # the window, flat.
    head = keras.initializers.VarianceScaling(
      0.01, "fan_avg", "uniform", seed=self.seed
    )
    self._build_network(2, 2, head, "loss_predictor")

  def _line(self, rows, end):
    """Returns level, slope, origin and whether all losses were finite.

    Each as of rows [0, end), end of shape=(B,).
    """
    reports = journal.window(rows, end, self.window)
    y = tf.cast(forecast_lib.log_loss(reports.loss), tf.float32)
    finite = tf.math.is_finite(y)
    # A masked NaN would still be a NaN in the gradient.
    y = tf.where(finite, y, tf.zeros_like(y))
    mean = tf.reduce_mean(y, axis=-1)
    versions = reports.version
    # The first version of the window has no predecessor in it.
    gaps = versions[:, 1:] - versions[:, :-1]
    gaps = tf.cast(tf.pad(gaps, [[0, 0], [1, 0]]), tf.float32)
    inputs = tf.stack(
      [y - mean[:, tf.newaxis], gaps / self._num_workers], axis=-1
    )
    adjustment, slope = tf.unstack(self.network(inputs), num=2, axis=-1)
    return (
      mean + adjustment,
      slope / self._num_workers,
      versions[:, -1],
      tf.reduce_all(finite, axis=-1),
    )

  def learn(self, rows, first, last):
    """Takes one step of Adam on the latest reports together."""
    numbers = (
      last - self.batch_size + tf.range(self.batch_size, dtype=last.dtype)
    )
    reports = journal.read(rows, numbers)
    y = tf.cast(forecast_lib.log_loss(reports.loss), tf.float32)
    pulled = tf.cast(reports.version, last.dtype)
    # Its window must have been full when the worker pulled, and must not have
    # been overwritten since.
    known = (
      (numbers >= first)
      & (pulled >= self.window)
      & (pulled - self.window >= last - rows.shape[0])
      & tf.math.is_finite(y)
    )
    pulled = tf.where(known, pulled, tf.cast(self.window, pulled.dtype))
    y = tf.where(known, y, 0.0)
    with tf.GradientTape() as tape:
      level, slope, origin, finite = self._line(rows, pulled)
      weight = tf.cast(known & finite, tf.float32)
      horizon = tf.cast(tf.cast(pulled, journal.DTYPE) - origin, tf.float32)
      residual = level + slope * horizon - y
      # Clipping the residual as Huber does keeps its gradient alive.
      size = tf.minimum(tf.abs(residual), _CLIP)
      losses = size * (2.0 * tf.abs(residual) - size)
      loss = tf.reduce_sum(weight * losses) / tf.maximum(
        tf.reduce_sum(weight), 1.0
      )
    variables = self.network.trainable_variables
    self._optimizer.apply(tape.gradient(loss, variables), variables)

  def forecast(self, rows, now):
    """Returns the line that the network draws from the latest reports."""
    end = tf.maximum(now, self.window)
    level, slope, origin, finite = self._line(rows, end[tf.newaxis])
    level, slope, origin = (
      tf.cast(part[0], tf.float64) for part in (level, slope, origin)
    )
    ready = (now >= self.window) & finite[0]
    drawn = tf.where(ready, tf.cast(now, tf.float64), -1.0)
    return forecast_lib.Forecast(level, slope, origin, drawn)
