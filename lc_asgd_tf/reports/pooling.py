"""What many cells say together: of all settings, workers, learning rates."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import scipy.stats

from lc_asgd_tf.reports import settings, statistics
from lc_asgd_tf.reports.record import Record

# A mean difference below it, in points, is none.
_ROUNDING = 1e-9

# What of a setting does not change what is trained.
_JUDGED_BY = {"batch_norm": "", "test_split": None}


class Pooled(NamedTuple):
  """Paired comparisons of two rules, a cell each, taken together.

  A cell is a setting, a number of workers and a learning rate; it counts if
  both rules have at least two seeds in common there. Settings that differ only
  in how the trained weights are judged, in `batch_norm` or the `test_split`,
  are one, in which every run has the mean of its test errors, of those that the
  other rule's run has as well.

  Attributes:
    cells: how many count.
    better: in how many cells the rule's mean test error is the lower one.
    worse: in how many it is the higher one.
    pairs: of runs, in all cells.
    p_value: two-sided, of no difference in any cell: Stouffer's combination of
      the cells' paired t-tests, each weighed by the root of its pairs. It asks
      whether the differences have a common sign and not how large they are,
      which could not be compared between settings. Cells in which all
      differences are the same count for neither side. It takes cells as
      independent of each other, though they may share seeds.
  """

  cells: int
  better: int
  worse: int
  pairs: int
  p_value: float


def pooled(records: Iterable[Record], rule: str, other: str) -> Pooled | None:
  """Compares two rules over all cells.

  Args:
    records: runs of any settings.
    rule: the one that is better, or worse.
    other: the one that it is compared with.

  Returns:
    The comparison; None if there is no cell.
  """
  by_cell: dict[tuple, list[Record]] = {}
  for record in _judged_alike(records, (rule, other)):
    names = ("num_workers", "learning_rate")
    cell = settings.setting_of(record), *(record[name] for name in names)
    by_cell.setdefault(cell, []).append(record)
  compared = [
    difference
    for runs in by_cell.values()
    if (difference := statistics.paired(runs, rule, other))
    and difference.pairs > 1
  ]
  if not compared:
    return None
  pairs = np.array([difference.pairs for difference in compared])
  scores = np.array([_score(difference) for difference in compared])
  score = np.sum(np.sqrt(pairs) * scores) / math.sqrt(np.sum(pairs))
  return Pooled(
    cells=len(compared),
    better=sum(difference.mean < -_ROUNDING for difference in compared),
    worse=sum(difference.mean > _ROUNDING for difference in compared),
    pairs=int(np.sum(pairs)),
    p_value=float(2 * scipy.stats.norm.sf(abs(score))),
  )


def _judged_alike(
  records: Iterable[Record], rules: tuple[str, str]
) -> list[Record]:
  """Returns a record per training run of two rules, however often judged.

  A judgement counts if there is one of the other rule's run as well.
  """
  pairs: dict[tuple, dict[tuple, dict[str, Record]]] = {}
  for record in records:
    if record["rule"] in rules:
      run = dict(record) | _JUDGED_BY
      names = ("num_workers", "learning_rate", "seed")
      pair = settings.setting_of(run), *(run[name] for name in names)
      judged_by = tuple(record[name] for name in _JUDGED_BY)
      judgements = pairs.setdefault(pair, {})
      judgements.setdefault(judged_by, {})[record["rule"]] = run
  result = []
  for judgements in pairs.values():
    shared = [runs for runs in judgements.values() if len(runs) == len(rules)]
    for rule in rules if shared else ():
      errors = [runs[rule]["test_error"] for runs in shared]
      result.append(shared[0][rule] | {"test_error": np.mean(errors)})
  return result


def _score(difference: statistics.Difference) -> float:
  """Returns the normal deviate of the same p-value and sign."""
  if math.isnan(difference.p_value):
    return 0.0
  # A p-value of 0, where differences hardly vary, would drown all others.
  p_value = max(difference.p_value, np.finfo(float).tiny)
  return math.copysign(scipy.stats.norm.isf(p_value / 2), difference.mean)
