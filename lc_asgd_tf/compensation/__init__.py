"""Compensation rules: what becomes of a late gradient, one file per rule."""

from lc_asgd_tf.compensation.compensation import Arrival, Compensation
from lc_asgd_tf.compensation.dana import LookAhead
from lc_asgd_tf.compensation.delay_compensated import (
  DelayCompensatedAdaptive,
  DelayCompensatedConstant,
)
from lc_asgd_tf.compensation.gap_aware import GapAware
from lc_asgd_tf.compensation.loss_compensated import LossCompensated
from lc_asgd_tf.compensation.registry import RULES
from lc_asgd_tf.compensation.staleness_aware import StalenessAware
from lc_asgd_tf.compensation.synchronous import Synchronous
from lc_asgd_tf.compensation.uncompensated import Uncompensated

__all__ = (
  "Arrival",
  "Compensation",
  "DelayCompensatedAdaptive",
  "DelayCompensatedConstant",
  "GapAware",
  "LookAhead",
  "LossCompensated",
  "RULES",
  "StalenessAware",
  "Synchronous",
  "Uncompensated",
)
