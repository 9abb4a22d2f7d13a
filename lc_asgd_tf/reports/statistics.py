"""What the runs of one setting say: errors, times, differences, choices."""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from lc_asgd_tf.reports import record as record_lib
from lc_asgd_tf.reports import settings
from lc_asgd_tf.reports.record import SEQUENTIAL, Record

INHERITED = "inherited"
"""All at the learning rate that is the sequential run's best."""

TUNED = "tuned"
"""Each rule and number of workers at the learning rate that is its best."""


class Errors(NamedTuple):
  """Test errors of runs that differ in the seed.

  Attributes:
    mean: in percent, failed runs included.
    deviation: sample standard deviation, in points; NaN for one run.
    runs: how many there are.
    failed: how many of them failed.
  """

  mean: float
  deviation: float
  runs: int
  failed: int


class Difference(NamedTuple):
  """A paired comparison of two rules.

  Attributes:
    mean: of the difference of their test errors, in points.
    standard_error: of the mean; NaN for one pair.
    p_value: of the two-sided paired t-test of no difference; NaN where there is
      none, for one pair and for differences that are all the same.
    pairs: how many there are.
  """

  mean: float
  standard_error: float
  p_value: float
  pairs: int


def cells(records: Iterable[Record]) -> dict[tuple[str, int], list[Record]]:
  """Returns the runs by rule and number of workers."""
  result: dict[tuple[str, int], list[Record]] = {}
  for record in records:
    cell = record["rule"], record["num_workers"]
    result.setdefault(cell, []).append(record)
  return result


def errors(records: Sequence[Record]) -> Errors:
  """Returns the mean error of runs, at least one, and how it varies."""
  percent = 100 * np.array([record["test_error"] for record in records])
  return Errors(
    mean=float(np.mean(percent)),
    deviation=_deviation(percent),
    runs=len(records),
    failed=sum(bool(record["failed"]) for record in records),
  )


def time_to_target(record: Record, target_error: float) -> float | None:
  """Returns the virtual time until the test error is at most a target.

  Args:
    record: the run.
    target_error: a fraction.

  Returns:
    The time at the end of the first epoch with such a measurement; None if
    there is none, or the run failed.
  """
  if record["failed"]:
    return None
  # False at an epoch without a measurement, which is NaN.
  reached = np.flatnonzero(record_lib.test_errors(record) <= target_error)
  if not reached.size:
    return None
  time = float(record_lib.times(record)[reached[0]])
  return None if math.isnan(time) else time


def mean_time_to_target(
  records: Sequence[Record], target_error: float
) -> float | None:
  """Returns the mean of `time_to_target`; None unless all runs get there."""
  times = [time_to_target(record, target_error) for record in records]
  if not times or None in times:
    return None
  return float(np.mean(times))


def reached_unseen(records: Sequence[Record], target_error: float) -> bool:
  """Returns whether a run had reached the target when it was first measured.

  Then `time_to_target` is an upper bound.

  Args:
    records: the runs.
    target_error: a fraction.
  """
  for record in records:
    measured = record_lib.test_errors(record)
    measured = measured[~np.isnan(measured)]
    if measured.size and measured[0] <= target_error:
      return True
  return False


def paired(
  records: Iterable[Record],
  rule: str,
  other: str,
  same: Sequence[str] = ("num_workers", "learning_rate", "seed"),
) -> Difference | None:
  """Compares two rules by runs that differ in nothing else.

  Args:
    records: runs of any settings; others than the two rules' do not count.
    rule: the one whose errors count as positive.
    other: the one whose errors count as negative.
    same: what the runs of a pair share, beside the setting. Without the
      learning rate there must be only one for each rule, as `tuned` leaves it.

  Returns:
    The mean difference, rule minus other; None if there is no pair.
  """
  percent: dict[str, dict[tuple, float]] = {rule: {}, other: {}}
  for record in records:
    if record["rule"] in percent:
      key = settings.setting_of(record), *(record[name] for name in same)
      percent[record["rule"]][key] = 100 * record["test_error"]
  keys = [key for key in percent[rule] if key in percent[other]]
  if not keys:
    return None
  first, second = (
    np.array([percent[name][key] for key in keys]) for name in (rule, other)
  )
  deviation = _deviation(first - second)
  with warnings.catch_warnings():
    # Of differences that are all the same, but for the last bits.
    warnings.simplefilter("ignore", RuntimeWarning)
    p_value = (
      float(scipy.stats.ttest_rel(first, second).pvalue)
      if deviation > 1e-9
      else math.nan
    )
  return Difference(
    mean=float(np.mean(first - second)),
    standard_error=deviation / math.sqrt(len(keys)),
    p_value=p_value,
    pairs=len(keys),
  )


def inherited_learning_rate(records: Iterable[Record]) -> float | None:
  """Returns the learning rate of the sequential runs with the least error.

  Args:
    records: the runs of one setting.

  Returns:
    The learning rate; without sequential runs the only one that there is, and
    None if there are several.
  """
  records = list(records)
  sequential = [r for r in records if r["rule"] == SEQUENTIAL]
  if sequential:
    return _best_learning_rate(sequential)
  rates = learning_rates(records)
  return rates[0] if len(rates) == 1 else None


def inherited(records: Iterable[Record]) -> list[Record]:
  """Returns the runs at the inherited learning rate; of one setting."""
  records = list(records)
  rate = inherited_learning_rate(records)
  return [record for record in records if record["learning_rate"] == rate]


def tuned(records: Iterable[Record]) -> list[Record]:
  """Returns, of each rule and worker count, the runs at its best rate.

  That is the learning rate with the lowest mean test error; of one setting.
  """
  result = []
  for runs in cells(records).values():
    rate = _best_learning_rate(runs)
    result += [record for record in runs if record["learning_rate"] == rate]
  return result


def choices(records: Iterable[Record]) -> dict[str, list[Record]]:
  """Returns the runs of one setting by how their learning rate is chosen.

  `INHERITED` is left out where nothing says which learning rate that is, and
  `TUNED` where there is only one.
  """
  records = list(records)
  result = {}
  if inherited_learning_rate(records) is not None:
    result[INHERITED] = inherited(records)
  if len(learning_rates(records)) > 1:
    result[TUNED] = tuned(records)
  return result


def learning_rates(records: Iterable[Record]) -> list[float]:
  """Returns the learning rates of some runs, each once, ascending."""
  return sorted({record["learning_rate"] for record in records})


def _best_learning_rate(records: Sequence[Record]) -> float:
  """Returns that of the lowest mean error, the lower of equals.

  Only seeds that every rate was run with count, if there are any: in a
  comparison that is not finished, a few lucky ones must not win.
  """
  by_rate: dict[float, dict[int, Record]] = {}
  for record in records:
    of_rate = by_rate.setdefault(record["learning_rate"], {})
    of_rate[record["seed"]] = record
  shared = set.intersection(*(set(runs) for runs in by_rate.values()))

  def mean(rate):
    runs = by_rate[rate]
    return errors([runs[seed] for seed in shared or runs]).mean

  return min(sorted(by_rate), key=mean)


def _deviation(values: np.ndarray) -> float:
  return float(np.std(values, ddof=1)) if values.size > 1 else math.nan
