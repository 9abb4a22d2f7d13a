"""The server's clock and books: versions, staleness, reports, forecasts."""

import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from lc_asgd_tf.compensation import compensation as compensation_lib
from lc_asgd_tf.predictors import forecast as forecast_lib
from lc_asgd_tf.predictors import journal


class Statistics(NamedTuple):
  """Sums over pushes since the last reset; each shape=(), float64.

  Attributes:
    pushes: how many arrived.
    rejected: how many of them were not finite and counted as zero.
    staleness_sum: the sum of tau, in updates.
    staleness_max: the largest tau.
    loss_error_sum: of |predicted - reported loss|, forecasts made before the
      report arrived.
    loss_persistence_sum: of |typical loss before the report - reported loss|,
      over the same pushes: what a forecast of no change is wrong by.
    loss_error_count: how many pushes met a forecast.
    step_error_sum: of |predicted - observed tau|, in updates.
    step_persistence_sum: of |the worker's previous tau - observed tau|, over
      the same pushes.
    step_error_count: how many pushes met a forecast.
  """

  pushes: tf.Tensor
  rejected: tf.Tensor
  staleness_sum: tf.Tensor
  staleness_max: tf.Tensor
  loss_error_sum: tf.Tensor
  loss_persistence_sum: tf.Tensor
  loss_error_count: tf.Tensor
  step_error_sum: tf.Tensor
  step_persistence_sum: tf.Tensor
  step_error_count: tf.Tensor

  def logs(self) -> dict[str, float]:
    """Returns what an epoch's logs say of them; fields are numbers here.

    Means over nothing are NaN.
    """

    def mean(total, count):
      return float(total / count) if count else math.nan

    return {
      "pushes": int(self.pushes),
      "rejected": int(self.rejected),
      "staleness_mean": mean(self.staleness_sum, self.pushes),
      "staleness_max": int(self.staleness_max),
      "loss_prediction_mae": mean(self.loss_error_sum, self.loss_error_count),
      "loss_persistence_mae": mean(
        self.loss_persistence_sum, self.loss_error_count
      ),
      "step_prediction_mae": mean(self.step_error_sum, self.step_error_count),
      "step_persistence_mae": mean(
        self.step_persistence_sum, self.step_error_count
      ),
    }


class Ledger:
  """Counts the versions and knows what each worker last pulled.

  Everything is created on the current device; `pull` and `arrive` must be
  atomic.

  Args:
    num_workers: M.
    compensation: the rule.
    accumulation: how many pushes the inner optimizer makes one update of.

  Attributes:
    version: t, shape=(), int64, the number of pushes so far.
    pulled: v_m, shape=(M,), int64, the version each worker pulled last.
    pushes: how many each worker has made, shape=(M,), int64.
    rows: the journal of reports (see `predictors.journal`).
    loss_forecast: a `Forecast`, shape=(4,), float64, as the loss predictor
      last drew it: with every push, or whenever it was done training.
    step_forecast: tau_hat of each worker's next push, shape=(M,), float32; -1
      where nothing is known.
    latest_staleness: tau of each worker's latest push, shape=(M,), float64.
    statistics: `Statistics`, shape=(10,), float64.
    log_loss_average: (average, count), shape=(2,), float32.
    signals: what the rule remembers, shape=(k,), float32; None if nothing.
  """

  def __init__(
    self,
    num_workers: int,
    compensation: compensation_lib.Compensation,
    accumulation: int = 1,
  ) -> None:
    self._compensation = compensation
    self._num_workers = num_workers
    # After how many pushes a worker that waits for the others goes on.
    self._round = num_workers if compensation.synchronous else 1
    self._pushes_per_update = max(accumulation, self._round)
    # The same pace as Holt's level: about half the pushes of one round.
    self._average_step = min(0.2, 1.0 / (num_workers / 2 + 4))

    def state(shape, dtype, name, value=0):
      return keras.Variable(
        tf.fill(shape, tf.cast(value, dtype)),
        dtype=dtype,
        trainable=False,
        name=name,
      )

    self.version = state([], "int64", "version")
    self.pulled = state([num_workers], "int64", "pulled")
    self.pushes = state([num_workers], "int64", "pushes")
    capacity = journal.capacity_for(num_workers)
    self.rows = state([capacity, journal.FIELDS], "float64", "journal")
    self.loss_forecast = state([4], "float64", "loss_forecast", -1)
    self.step_forecast = state([num_workers], "float32", "step_forecast", -1)
    self.latest_staleness = state([num_workers], "float64", "latest_staleness")
    self.statistics = state([len(Statistics._fields)], "float64", "statistics")
    self.log_loss_average = state([2], "float32", "log_loss_average")
    self.signals = None
    if compensation.initial_signals:
      self.signals = keras.Variable(
        compensation.initial_signals,
        dtype="float32",
        trainable=False,
        name="signals",
      )

  def skip_partial_round(self) -> bool:
    """Counts on to the end of a round; returns whether one had begun.

    The rows of the pushes that never came are zero.
    """
    version = int(self.version.numpy())
    rest = -version % self._round
    if rest:
      rows = self.rows.numpy()
      rows[np.arange(version, version + rest) % len(rows)] = 0.0
      self.rows.assign(rows)
      self.version.assign_add(rest)
    return rest > 0

  @property
  def variables(self) -> list[keras.Variable]:
    """All state, in a fixed order."""
    return [
      self.version,
      self.pulled,
      self.pushes,
      self.rows,
      self.loss_forecast,
      self.step_forecast,
      self.latest_staleness,
      self.statistics,
      self.log_loss_average,
      *([] if self.signals is None else [self.signals]),
    ]

  def pull(self, worker: tf.Tensor) -> tf.Tensor:
    """Notes that a worker pulls now; returns the version, shape=() int64."""
    version = tf.convert_to_tensor(self.version.value)
    self.pulled.value.scatter_nd_update([[worker]], [version])
    return version

  def pull_together(self, workers: tf.Tensor) -> None:
    """Notes that some workers pull now, shape=(M,), bool."""
    pulled = tf.convert_to_tensor(self.pulled.value)
    self.pulled.assign(tf.where(workers, self.version.value, pulled))

  def staleness(self, version: tf.Tensor, pulled: tf.Tensor) -> tf.Tensor:
    """Returns tau, in updates, of a push that meets `version`."""
    pushes = self._pushes_per_update
    return version // pushes - pulled // pushes

  def arrive(
    self,
    worker: tf.Tensor,
    loss: tf.Tensor,
    sums: tf.Tensor | None = None,
    compute_seconds: tf.Tensor | float = 0.0,
    communication_seconds: tf.Tensor | float = 0.0,
    pulled_at: tf.Tensor | float = 0.0,
  ) -> tuple[tuple[tf.Tensor, ...], tf.Tensor | None, tf.Tensor]:
    """Books a push, and the pull that follows it at once.

    Args:
      worker: m, shape=(), int64.
      loss: l, shape=().
      sums: the rule's sums over all shards, or None.
      compute_seconds: from pull to gradient, for the step predictor.
      communication_seconds: of the previous push and pull.
      pulled_at: when the worker had pulled, in seconds of its own clock.

    Returns:
      The rule's coefficients, whether the push is accepted (None: it is) and
      the new version, shape=() int64, which the worker has pulled with this.
    """
    version = tf.convert_to_tensor(self.version.value)
    pulled = tf.gather(tf.convert_to_tensor(self.pulled.value), worker)
    staleness = self.staleness(version, pulled)
    expected = tf.gather(tf.convert_to_tensor(self.step_forecast.value), worker)
    loss = tf.cast(loss, tf.float32)
    accepted = self._compensation.accepts(sums)
    persistent = self._persistent_forecasts(worker)

    forecast = forecast_lib.Forecast(
      *tf.unstack(tf.convert_to_tensor(self.loss_forecast.value))
    )
    arrival = compensation_lib.Arrival(
      staleness=tf.cast(staleness, tf.float32),
      loss=loss,
      predicted_change=forecast_lib.predicted_change(
        forecast, pulled, self._horizon(pulled, version, expected), version
      ),
      typical_loss=self._typical_loss(loss),
      num_workers=self._num_workers,
    )
    arrival = self._observe(sums, arrival, accepted)
    coefficients = tuple(self._compensation.coefficients(sums, arrival))

    journal.write(
      self.rows.value,
      version,
      journal.Report(
        version=pulled,
        loss=loss,
        worker=worker,
        staleness=staleness,
        compute_seconds=compute_seconds,
        communication_seconds=communication_seconds,
        pulled_at=pulled_at,
      ),
    )
    predicted = forecast_lib.predicted_loss(forecast, pulled, version)
    self._count(
      (predicted, tf.cast(expected, tf.float64)),
      persistent,
      forecast_lib.is_ready(forecast),
      (loss, tf.cast(staleness, tf.float64)),
      accepted,
    )
    self.latest_staleness.value.scatter_nd_update(
      [[worker]], [tf.cast(staleness, tf.float64)]
    )
    following = version + 1
    self.version.assign(following)
    # What is pulled after a synchronous push is the end of its round.
    end = (version // self._round + 1) * self._round
    self.pulled.value.scatter_nd_update([[worker]], [end])
    made = tf.gather(tf.convert_to_tensor(self.pushes.value), worker)
    self.pushes.value.scatter_nd_update([[worker]], [made + 1])
    return coefficients, accepted, following

  def _observe(self, sums, arrival, accepted):
    """Returns the arrival with the rule's signals, updated."""
    if self.signals is None:
      return arrival
    old = tf.convert_to_tensor(self.signals.value)
    new = self._compensation.observe(sums, arrival._replace(signals=old))
    if accepted is not None:
      new = tf.where(accepted, new, old)
    self.signals.assign(new)
    return arrival._replace(signals=new)

  def _horizon(self, pulled, version, expected):
    """Returns the version at which the loss is to be predicted."""
    if self._compensation.horizon == "observed":
      return version
    ahead = self._pushes_per_update * tf.cast(expected, tf.float64)
    foreseen = tf.cast(pulled, tf.float64) + ahead
    return tf.where(expected >= 0, foreseen, tf.cast(version, tf.float64))

  def _typical_loss(self, loss):
    """Returns exp of the average log loss, this report included."""
    average, count = tf.unstack(
      tf.convert_to_tensor(self.log_loss_average.value)
    )
    y = forecast_lib.log_loss(loss)
    step = tf.maximum(self._average_step, 1.0 / (count + 1.0))
    known = tf.math.is_finite(y)
    average = tf.where(known, average + step * (y - average), average)
    count = tf.where(known, count + 1.0, count)
    self.log_loss_average.assign(tf.stack([average, count]))
    return tf.exp(average)

  def _persistent_forecasts(self, worker):
    """Returns what loss and tau would be, if both stayed as they were."""
    average = tf.convert_to_tensor(self.log_loss_average.value)[0]
    latest = tf.convert_to_tensor(self.latest_staleness.value)
    return tf.exp(average), tf.gather(latest, worker)

  def _count(self, predicted, persistent, loss_predicted, observed, accepted):
    """Adds one push to the statistics; (loss, tau) where there are two."""
    old = Statistics(*tf.unstack(tf.convert_to_tensor(self.statistics.value)))
    loss, staleness = observed
    loss_known = loss_predicted & tf.math.is_finite(loss)
    step_known = predicted[1] >= 0
    rejected = (
      tf.zeros([], tf.float64)
      if accepted is None
      else tf.cast(~accepted, tf.float64)
    )

    def add(total, known, value):
      value = tf.cast(value, tf.float64)
      return total + tf.where(known, value, tf.zeros_like(value))

    loss_error, step_error = map(_distance, predicted, observed)
    loss_persistence, step_persistence = map(_distance, persistent, observed)
    new = Statistics(
      pushes=old.pushes + 1.0,
      rejected=old.rejected + rejected,
      staleness_sum=old.staleness_sum + staleness,
      staleness_max=tf.maximum(old.staleness_max, staleness),
      loss_error_sum=add(old.loss_error_sum, loss_known, loss_error),
      loss_persistence_sum=add(
        old.loss_persistence_sum, loss_known, loss_persistence
      ),
      loss_error_count=add(old.loss_error_count, loss_known, 1.0),
      step_error_sum=add(old.step_error_sum, step_known, step_error),
      step_persistence_sum=add(
        old.step_persistence_sum, step_known, step_persistence
      ),
      step_error_count=add(old.step_error_count, step_known, 1.0),
    )
    self.statistics.assign(tf.stack(new))

  def reset_statistics(self) -> None:
    """Starts a new epoch's statistics."""
    self.statistics.assign(tf.zeros([len(Statistics._fields)], tf.float64))


def _distance(one, other):
  return tf.abs(one - other)
