"""The default loss predictor: a Keras LSTM, trained online."""

import keras
import numpy as np
import tensorflow as tf

from lc_asgd_tf.predictors import forecast as forecast_lib
from lc_asgd_tf.predictors import journal, loss_predictor, recurrent
from lc_asgd_tf.predictors import trend as trend_lib

_CLIP = 2.0
# How many reports a trend may follow in one call; it learns from few of them.
_MOST_REPORTS = 512
# What a row is before its trend is worked out.
_NO_TREND = (*trend_lib.INITIAL, -1.0)


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class LSTMLossPredictor(
  recurrent.RecurrentPredictor, loss_predictor.LossPredictor
):
  """A trend, and what an LSTM over the last reports adds to it.

  Holt's trend of the log loss y (see `trend`) says where the loss is going as
  well as noisy reports allow. The network learns what it leaves. From the last
  `window` reports (v_i, y_i), and the trend ybar(v) at the time:

      inputs  x_i = (y_i - ybar(v_i), (v_i - v_{i-1}) / M)
      output  yhat(v) = ybar(v) + A(h) + S(h) (v - v_max) / M

  where v_max is the newest version that was reported: that of the last report
  may be any number of updates old. A forecast is the trend as it is, and A and
  S as the network last said when it learned.

  A report (v_m, y) of a worker that pulled version v_m is a training example
  whose inputs are the reports that had arrived by then, rows [0, v_m), and the
  trend as it was then. Huber's loss of the residual, which is linear beyond 2,
  is minimised by Adam with the gradient's norm clipped at 1.

  Source: the paper's abstract says that such models live on the server and
  learn online from the workers' losses; trend and network are a
  reconstruction.

  Args:
    units: size of the LSTM.
    window: reports per input, and how many must have arrived before the
      predictor says anything.
    learning_rate: Adam's.
    batch_size: how many reports one training step takes together, on a
      cluster; a simulation takes those between two of them.
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
    # A tenth of Glorot's scale: the first forecasts are close to the trend.
    head = keras.initializers.VarianceScaling(
      0.01, "fan_avg", "uniform", seed=self.seed
    )
    self._build_network(num_workers, 2, 2, head, "loss_predictor")
    # A ring like the journal: row n is the trend after n reports, and n.
    trends = np.tile(_NO_TREND, [journal.capacity_for(num_workers), 1])
    trends[0, -1] = 0.0
    self._trends = keras.Variable(
      trends,
      dtype="float64",
      trainable=False,
      name="trends",
    )
    self._followed = keras.Variable(
      0, dtype="int64", trainable=False, name="followed"
    )
    # A and S / M.
    self._addition = keras.Variable(
      [0.0, 0.0], dtype="float64", trainable=False, name="addition"
    )
    # Report by report, in microseconds, so that no push waits for long; two
    # callers at once follow no report twice.
    self._compiled_follow = tf.function(
      self._follow, jit_compile=True, autograph=False
    )

  @property
  def variables(self):
    """Of the network, of Adam, the trends, how many, and the addition."""
    return [
      *super().variables,
      self._trends,
      self._followed,
      self._addition,
    ]

  def _trend_after(self, number):
    """Returns the trend after the reports [0, number), and if it is known."""
    trends = tf.convert_to_tensor(self._trends.value)
    row = tf.gather(trends, number % trends.shape[0])
    *trend, of = tf.unstack(row, num=len(_NO_TREND), axis=-1)
    return trend_lib.Trend(*trend), of == tf.cast(number, of.dtype)

  def _follow(self, rows, first, last):
    """Works out the trend after each of the reports [first, last)."""

    def note(number, trend):
      row = tf.stack([*trend, tf.cast(number, tf.float64)])
      slot = number % self._trends.shape[0]
      self._trends.value.scatter_nd_update([[slot]], [row])

    first = tf.maximum(first, self._followed.value)
    trend, _ = self._trend_after(first)
    first = tf.maximum(first, last - _MOST_REPORTS)
    trend_lib.follow(trend, rows, first, last, self._num_workers, note)
    self._followed.assign(tf.maximum(last, self._followed.value))

  def _add(self, rows, end):
    """Returns the trend, A, S / M, and whether they can be used.

    Each as of rows [0, end), end of shape=(B,).
    """
    reports = journal.window(rows, end, self.window)
    y = forecast_lib.log_loss(reports.loss)
    finite = tf.math.is_finite(y)
    # A masked NaN would still be a NaN in the gradient.
    y = tf.where(finite, y, tf.zeros_like(y))
    trend, known = self._trend_after(end)
    versions = reports.version
    expected = trend_lib.at(
      trend_lib.Trend(*(part[:, tf.newaxis] for part in trend)), versions
    )
    # The first version of the window has no predecessor in it.
    gaps = versions[:, 1:] - versions[:, :-1]
    gaps = tf.pad(gaps, [[0, 0], [1, 0]]) / self._num_workers
    inputs = tf.cast(tf.stack([y - expected, gaps], axis=-1), tf.float32)
    adjustment, slope = tf.unstack(
      tf.cast(self.network(inputs), tf.float64), num=2, axis=-1
    )
    usable = known & tf.reduce_all(finite, axis=-1)
    return trend, adjustment, slope / self._num_workers, usable

  def follow(self, rows, first, last):
    """Follows the trend, from where it is."""
    self._compiled_follow(rows, first, last)

  def learn(self, rows, first, last):
    """Follows the trend; takes one step of Adam; says what it adds now."""
    self.follow(rows, first, last)
    numbers = (
      last - self.batch_size + tf.range(self.batch_size, dtype=last.dtype)
    )
    reports = journal.read(rows, numbers)
    y = forecast_lib.log_loss(reports.loss)
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
    y = tf.where(known, y, tf.zeros_like(y))
    with tf.GradientTape() as tape:
      trend, adjustment, slope, usable = self._add(rows, pulled)
      weight = tf.cast(known & usable, tf.float32)
      line = _sum(trend, adjustment, slope)
      versions = tf.cast(pulled, journal.DTYPE)
      residual = tf.cast(trend_lib.at(line, versions) - y, tf.float32)
      # Clipping the residual as Huber does keeps its gradient alive.
      size = tf.minimum(tf.abs(residual), _CLIP)
      losses = size * (2.0 * tf.abs(residual) - size)
      loss = tf.reduce_sum(weight * losses) / tf.maximum(
        tf.reduce_sum(weight), 1.0
      )
    variables = self.network.trainable_variables
    self._optimizer.apply(tape.gradient(loss, variables), variables)
    self._revise(rows, last)

  def _revise(self, rows, last):
    """Has the network say what it adds after the reports [0, last).

    Nothing where it cannot tell: before there are enough reports, beside one
    that is not finite, and where pushes have overwritten what it must see.
    """
    end = tf.maximum(last, self.window)
    _, *addition, usable = self._add(rows, end[tf.newaxis])
    addition = tf.concat(addition, axis=0)
    usable &= (last >= self.window) & tf.reduce_all(tf.math.is_finite(addition))
    self._addition.assign(tf.where(usable, addition, tf.zeros_like(addition)))

  def forecast(self, rows, now):
    """Returns the trend after the latest report, with what is added to it."""
    del rows
    trend, known = self._trend_after(now)
    addition = tf.unstack(tf.convert_to_tensor(self._addition.value))
    line = _sum(trend, *addition)
    ready = (now >= self.window) & known
    drawn = tf.where(ready, tf.cast(now, tf.float64), -1.0)
    return forecast_lib.Forecast(line.level, line.slope, line.origin, drawn)


def _sum(
  trend: trend_lib.Trend, adjustment: tf.Tensor, slope: tf.Tensor
) -> trend_lib.Trend:
  """Returns the trend with this much added to level and slope."""
  return trend._replace(
    level=trend.level + adjustment, slope=trend.slope + slope
  )
