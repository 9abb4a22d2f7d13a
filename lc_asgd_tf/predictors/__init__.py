"""Predictors of the loss and of the staleness, trained online."""

from lc_asgd_tf.predictors.forecast import Forecast
from lc_asgd_tf.predictors.holt import HoltLossPredictor
from lc_asgd_tf.predictors.loss_predictor import LossPredictor
from lc_asgd_tf.predictors.lstm import LSTMLossPredictor
from lc_asgd_tf.predictors.persistence import PersistenceLossPredictor
from lc_asgd_tf.predictors.registry import LOSS_PREDICTORS, get
from lc_asgd_tf.predictors.step_predictor import StepPredictor

__all__ = (
  "LOSS_PREDICTORS",
  "Forecast",
  "HoltLossPredictor",
  "LSTMLossPredictor",
  "LossPredictor",
  "PersistenceLossPredictor",
  "StepPredictor",
  "get",
)
