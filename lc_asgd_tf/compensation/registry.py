"""Rules by name, as flags, comparisons and reports know them."""

from lc_asgd_tf.compensation import (
  dana,
  delay_compensated,
  gap_aware,
  loss_compensated,
  staleness_aware,
  synchronous,
  uncompensated,
)
from lc_asgd_tf.compensation.compensation import Compensation

RULES: dict[str, type[Compensation]] = {
  "ssgd": synchronous.Synchronous,
  "asgd": uncompensated.Uncompensated,
  "staleness_aware": staleness_aware.StalenessAware,
  "gap_aware": gap_aware.GapAware,
  "dana": dana.LookAhead,
  "dc_asgd_c": delay_compensated.DelayCompensatedConstant,
  "dc_asgd": delay_compensated.DelayCompensatedAdaptive,
  "lc_asgd": loss_compensated.LossCompensated,
}
"""The rules of this package; dc_asgd is the adaptive form."""
