"""A model that looks up what the loss predictor has to guess."""

import keras
import numpy as np
import tensorflow as tf

from lc_asgd_tf import errors
from lc_asgd_tf.predictors import forecast as forecast_lib

# Equal to no line, and not even to itself.
_NO_LINE = np.full(4, np.nan)


class OracleModel(keras.Model):
  """Computes each batch's loss at the server's weights, too.

  A model of simulated workers only: nobody can know that loss on a cluster. It
  judges the loss predictor, whose Delta it compares with

      Delta* = loss of the batch at w - loss of the batch at w_m,

  and, if asked to, puts Delta* in place of the predictor's.

  Args:
    model: a functional model; the new one shares its layers.
    decides: whether the rule sees Delta* in place of the prediction.

  Raises:
    UserError: if the model computes a loss of its own, which would be lost.
  """

  def __init__(self, model: keras.Model, decides: bool) -> None:
    if type(model).compute_loss is not keras.Model.compute_loss:
      raise errors.UserError(
        f"the model {model.name!r} overrides compute_loss, which cannot be "
        "judged: leave out --judge and lc_asgd_oracle."
      )
    super().__init__(model.inputs, model.outputs[0], name=model.name)
    self.decides = decides
    self._sums = tf.Variable(tf.zeros([4], tf.float64), trainable=False)
    # The predictor's latest line, and the one put in its place, which stays
    # until the predictor draws another.
    self._predicted, self._replacement = (
      tf.Variable(_NO_LINE, trainable=False) for _ in range(2)
    )

  def compute_loss(
    self, x=None, y=None, y_pred=None, sample_weight=None, training=True
  ):
    """Returns the loss at the snapshot, after a look at that at w."""
    loss = super().compute_loss(x, y, y_pred, sample_weight, training)
    simulation = getattr(self.optimizer, "simulation", None)
    if training and simulation is not None:
      weights = simulation.server.shards[0].weights
      at_server, _ = self.stateless_call(
        [weight.value for weight in weights],
        [variable.value for variable in self.non_trainable_variables],
        x,
        training=True,
      )
      loss_at_server = super().compute_loss(
        x, y, at_server, sample_weight, training
      )
      self._compare(simulation, loss, loss_at_server)
    return loss

  def _compare(self, simulation, loss, loss_at_server):
    ledger = simulation.server.ledger
    now = tf.convert_to_tensor(ledger.version.value)
    pulled = tf.gather(
      tf.convert_to_tensor(ledger.pulled.value), simulation.workers.turn.value
    )
    line = tf.convert_to_tensor(ledger.loss_forecast.value)
    replaced = tf.reduce_all(line == self._replacement)
    line = tf.where(replaced, self._predicted, line)
    self._predicted.assign(line)
    forecast = forecast_lib.Forecast(*tf.unstack(line))
    true = tf.cast(loss_at_server - loss, tf.float64)
    predicted = tf.cast(
      forecast_lib.predicted_change(forecast, pulled, now, now), tf.float64
    )
    known = forecast_lib.is_ready(forecast) & tf.math.is_finite(true)
    parts = [1.0, tf.abs(predicted - true), tf.abs(true), predicted]
    parts = tf.stack([tf.cast(part, tf.float64) for part in parts])
    self._sums.assign_add(tf.where(known, parts, tf.zeros_like(parts)))
    if self.decides:
      start, end = (
        tf.cast(forecast_lib.log_loss(value), tf.float64)
        for value in (loss, loss_at_server)
      )
      drawn = tf.cast(now, tf.float64)
      origin = tf.cast(pulled, tf.float64)
      slope = tf.math.divide_no_nan(end - start, drawn - origin)
      true_line = tf.stack([start, slope, origin, drawn])
      # Strange losses must poison nothing, here as in any predictor.
      shown = tf.where(tf.math.is_finite(true), true_line, line)
      self._replacement.assign(shown)
      ledger.loss_forecast.assign(shown)

  def reset(self) -> None:
    """Forgets all comparisons."""
    self._sums.assign(tf.zeros_like(self._sums))
    for line in (self._predicted, self._replacement):
      line.assign(_NO_LINE)

  def change_errors(self) -> dict[str, float | None]:
    """Returns mean absolute errors of the predicted change of the loss.

    `change_mae` is the predictor's, `change_mae_persistence` that of predicting
    no change; `change_predicted` is the mean prediction. None if nothing was
    predicted.
    """
    count, *sums = self._sums.numpy()
    names = ("change_mae", "change_mae_persistence", "change_predicted")
    return {
      name: float(total / count) if count else None
      for name, total in zip(names, sums, strict=True)
    }
