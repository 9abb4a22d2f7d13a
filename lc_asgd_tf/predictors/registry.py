"""Loss predictors by name."""

from lc_asgd_tf.predictors import holt, loss_predictor, lstm, persistence

LOSS_PREDICTORS = {
  "lstm": lstm.LSTMLossPredictor,
  "holt": holt.HoltLossPredictor,
  "persistence": persistence.PersistenceLossPredictor,
}


def get(
  identifier: str | loss_predictor.LossPredictor,
) -> loss_predictor.LossPredictor:
  """Returns the loss predictor of this name, or the predictor itself.

  Raises:
    ValueError: if it is neither.
  """
  if isinstance(identifier, loss_predictor.LossPredictor):
    return identifier
  if isinstance(identifier, str) and identifier in LOSS_PREDICTORS:
    return LOSS_PREDICTORS[identifier]()
  raise ValueError(
    f"Unknown loss predictor {identifier!r}: use one of "
    f"{', '.join(LOSS_PREDICTORS)}, or a LossPredictor."
  )
