"""Reports: tables and plots of what many training runs came to."""

from lc_asgd_tf.reports.figures import save
from lc_asgd_tf.reports.plots import (
  error_by_workers,
  predicted_loss,
  staleness,
  training_loss,
)
from lc_asgd_tf.reports.pooling import Pooled, pooled
from lc_asgd_tf.reports.record import check
from lc_asgd_tf.reports.report import default_target_error, write
from lc_asgd_tf.reports.settings import Setting, by_setting, setting_of
from lc_asgd_tf.reports.statistics import (
  INHERITED,
  TUNED,
  Difference,
  Errors,
  choices,
  errors,
  mean_time_to_target,
  paired,
  time_to_target,
)
from lc_asgd_tf.reports.table import (
  error_table,
  learning_rate_table,
  paired_table,
  pooled_table,
  prediction_table,
  time_table,
)

__all__ = (
  "INHERITED",
  "TUNED",
  "Difference",
  "Errors",
  "Pooled",
  "Setting",
  "by_setting",
  "check",
  "choices",
  "default_target_error",
  "error_by_workers",
  "error_table",
  "errors",
  "learning_rate_table",
  "mean_time_to_target",
  "paired",
  "paired_table",
  "pooled",
  "pooled_table",
  "predicted_loss",
  "prediction_table",
  "save",
  "setting_of",
  "staleness",
  "time_table",
  "time_to_target",
  "training_loss",
  "write",
)
