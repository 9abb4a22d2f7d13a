"""The step predictor: how late will the push be that is being computed?"""

import keras
import tensorflow as tf

from lc_asgd_tf.predictors import journal, recurrent

_TINY_SECONDS = 1e-6


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class StepPredictor(recurrent.RecurrentPredictor):
  """A Keras LSTM over each worker's own past reports, trained online.

      y_i     = log(1 + tau_i)
      inputs  x_i = (y_i - mean, log compute_i, log communication_i, known)
      output  tau_hat = exp(mean + A(h)) - 1

  where mean is that of y_i over the known entries of the window, so that an
  untrained network repeats the recent past. All workers share the network. The
  loss is the absolute error of log(1 + tau).

  Source: the paper's abstract names the delay "high and volatile" as what is to
  be predicted; inputs and network are a reconstruction.

  Args:
    units: size of the LSTM.
    window: reports of one worker per input.
    learning_rate: Adam's.
    batch_size: how many reports one training step takes together.
    seed: of the network's initial weights.
  """

  def __init__(
    self,
    units: int = 16,
    window: int = 8,
    learning_rate: float = 2e-3,
    batch_size: int = 32,
    seed: int = 0,
  ) -> None:
    super().__init__(units, window, learning_rate, batch_size, seed)

  def build(self, num_workers: int) -> None:
    """Creates the network and its optimizer's state, on the current device."""
    # It is the same for any.
    self._build_network(num_workers, 4, 1, "zeros", "step_predictor")

  def _log_staleness(self, rows, workers, before, now):
    """Predicts log(1 + tau) from each worker's reports before a given one.

    Args:
      rows: the journal's ring.
      workers: shape=(B,), int64.
      before: shape=(B,), int64; reports from this number on are not seen.
      now: shape=(), int64; the number of reports in the journal.

    Returns:
      The prediction, shape=(B,), and whether any report was known.
    """
    capacity = rows.shape[0]
    # The number of the report in each slot of the ring.
    slots = tf.range(capacity, dtype=now.dtype)
    numbers = now - 1 - (now - 1 - slots) % capacity
    report = journal.Report(*tf.unstack(rows, num=journal.FIELDS, axis=-1))
    mine = (
      (tf.cast(report.worker, workers.dtype) == workers[:, tf.newaxis])
      & (numbers >= 0)
      & (numbers < before[:, tf.newaxis])
    )
    # int32: top_k takes it everywhere; ages are smaller than the capacity.
    recency = tf.where(mine, tf.cast(numbers - now, tf.int32), -capacity - 1)
    recency, slot = tf.math.top_k(recency, k=self.window)
    known = tf.cast(recency >= -capacity, tf.float32)[:, ::-1]
    slot = slot[:, ::-1]

    def log_feature(column, floor):
      value = tf.cast(tf.gather(column, slot), tf.float32)
      return tf.math.log(tf.maximum(value, 0.0) + floor) * known

    staleness = log_feature(report.staleness, 1.0)
    count = tf.reduce_sum(known, axis=-1)
    mean = tf.reduce_sum(staleness, axis=-1) / tf.maximum(count, 1.0)
    inputs = tf.stack(
      [
        (staleness - mean[:, tf.newaxis]) * known,
        log_feature(report.compute_seconds, _TINY_SECONDS),
        log_feature(report.communication_seconds, _TINY_SECONDS),
        known,
      ],
      axis=-1,
    )
    return mean + self.network(inputs)[:, 0], count > 0

  def learn(self, rows: tf.Tensor, first: tf.Tensor, last: tf.Tensor) -> None:
    """Trains on the reports [first, last), at most the last `batch_size`."""
    numbers = (
      last - self.batch_size + tf.range(self.batch_size, dtype=last.dtype)
    )
    report = journal.read(rows, numbers)
    workers = tf.cast(report.worker, last.dtype)
    target = tf.cast(tf.math.log(1.0 + report.staleness), tf.float32)
    with tf.GradientTape() as tape:
      predicted, known = self._log_staleness(rows, workers, numbers, last)
      weight = tf.cast(known & (numbers >= first), tf.float32)
      loss = tf.reduce_sum(weight * tf.abs(predicted - target)) / tf.maximum(
        tf.reduce_sum(weight), 1.0
      )
    variables = self.network.trainable_variables
    self._optimizer.apply(tape.gradient(loss, variables), variables)

  def forecast(
    self, rows: tf.Tensor, now: tf.Tensor, workers: tf.Tensor
  ) -> tf.Tensor:
    """Returns tau_hat of each worker's next push, shape=(B,), float32.

    Args:
      rows: the journal's ring.
      now: shape=(), int64; the number of reports in the journal.
      workers: shape=(B,), int64.

    Returns:
      Predicted staleness in updates; -1 for a worker without any report.
    """
    log, known = self._log_staleness(
      rows, workers, tf.fill(tf.shape(workers), now), now
    )
    return tf.where(known, tf.maximum(tf.exp(log) - 1.0, 0.0), -1.0)
