"""Compares rules: many runs of `keras.Model.fit` with simulated workers."""

from lc_asgd_tf.comparison.cell import NO_DELAYS, SEQUENTIAL, Cell
from lc_asgd_tf.comparison.grid import Grid
from lc_asgd_tf.comparison.presets import DEFAULTS, PRESETS
from lc_asgd_tf.comparison.rules import (
  CONTROLS,
  RULES,
  Rule,
  may_use_momentum,
  register,
)
from lc_asgd_tf.comparison.rules import expand as expand_rules
from lc_asgd_tf.comparison.runner import run
from lc_asgd_tf.comparison.store import Store
from lc_asgd_tf.comparison.trial import (
  load_dataset,
  make_delays,
  run_cells,
)

__all__ = (
  "CONTROLS",
  "Cell",
  "DEFAULTS",
  "Grid",
  "NO_DELAYS",
  "PRESETS",
  "RULES",
  "Rule",
  "SEQUENTIAL",
  "Store",
  "expand_rules",
  "load_dataset",
  "make_delays",
  "may_use_momentum",
  "register",
  "run",
  "run_cells",
)
