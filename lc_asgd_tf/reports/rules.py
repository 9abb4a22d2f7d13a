"""The order in which tables and legends name the rules."""

from collections.abc import Iterable

from lc_asgd_tf.reports.record import SEQUENTIAL

NAMED = (
  SEQUENTIAL,
  "ssgd",
  "asgd",
  "staleness_aware",
  "gap_aware",
  "dana",
  "dc_asgd_c",
  "dc_asgd",
  "lc_asgd",
)
"""The sequential run and the rules of the library, simple ones first."""


def ordered(rules: Iterable[str]) -> list[str]:
  """Returns the rules, each once: those of `NAMED`, then all others by name."""
  rules = set(rules)
  return [rule for rule in NAMED if rule in rules] + sorted(rules - {*NAMED})
