"""Tables in Markdown: of one setting at chosen learning rates, and of all."""

import math
from collections.abc import Callable, Iterable, Sequence

from lc_asgd_tf.reports import pooling, rules, statistics
from lc_asgd_tf.reports import record as record_lib
from lc_asgd_tf.reports.record import SEQUENTIAL, Record

_Cells = dict[tuple[str, int], list[Record]]


def error_table(records: Sequence[Record]) -> str:
  """Returns test errors by rule and number of workers."""
  cells = statistics.cells(records)
  best = {}
  for (rule, workers), runs in cells.items():
    if rule != SEQUENTIAL:
      mean = round(statistics.errors(runs).mean, 2)
      best[workers] = min(mean, best.get(workers, math.inf))

  def entry(rule, workers, runs):
    errors = statistics.errors(runs)
    text = f"{errors.mean:.2f}"
    if not math.isnan(errors.deviation):
      text += f" ± {errors.deviation:.2f}"
    if rule != SEQUENTIAL and round(errors.mean, 2) == best[workers]:
      text = f"**{text}**"
    return f"{text} ({errors.failed})" if errors.failed else text

  return _table(cells, entry)


def learning_rate_table(records: Sequence[Record]) -> str:
  """Returns the chosen learning rates by rule and number of workers."""
  return _table(
    statistics.cells(records),
    lambda rule, workers, runs: f"{runs[0]['learning_rate']:g}",
  )


def time_table(records: Sequence[Record], target_error: float) -> str:
  """Returns the mean virtual time to a test error, `-` if not all get there.

  It is at most that, `≤`, where a run was there when it was first measured.
  Sequential runs are left out where nothing tells how long they take.

  Args:
    records: the runs.
    target_error: a fraction.
  """

  def entry(rule, workers, runs):
    time = statistics.mean_time_to_target(runs, target_error)
    if time is None:
      return "-"
    bound = "≤ " if statistics.reached_unseen(runs, target_error) else ""
    return bound + (f"{time:.0f}" if time >= 100 else f"{time:.3g}")

  timed = [
    record
    for record in records
    if record["rule"] != SEQUENTIAL or not record_lib.in_seconds(record)
  ]
  return _table(statistics.cells(timed), entry)


def prediction_table(records: Sequence[Record], what: str) -> str | None:
  """Returns the error of a prediction beside that of persistence.

  Args:
    records: the runs.
    what: `change` of the loss, or `step` for the staleness.

  Returns:
    None if no run was judged.
  """
  names = f"{what}_mae", f"{what}_mae_persistence"
  judged = [
    record
    for record in records
    if all(record.get(name) is not None for name in names)
  ]

  def entry(rule, workers, runs):
    means = (sum(run[name] for run in runs) / len(runs) for name in names)
    return " / ".join(f"{mean:.3g}" for mean in means)

  return _table(statistics.cells(judged), entry) if judged else None


def paired_table(
  records: Sequence[Record],
  rule: str = "lc_asgd",
  others: Iterable[str] | None = None,
) -> str | None:
  """Returns how the errors of one rule differ from those of others.

  Args:
    records: the runs.
    rule: the rule.
    others: the others, None for all but sequential runs.

  Returns:
    None if there is nothing to compare the rule with.
  """
  others = set(_others(records, rule) if others is None else others)
  cells = {}
  for (name, workers), runs in statistics.cells(records).items():
    counterpart = [
      record
      for record in records
      if record["rule"] == rule and record["num_workers"] == workers
    ]
    if name in others and counterpart:
      cells[name, workers] = runs + counterpart

  def entry(name, workers, runs):
    # Each is at its own learning rate, which may not be the same.
    difference = statistics.paired(
      runs, rule, name, same=("num_workers", "seed")
    )
    return "" if difference is None else _difference(difference)

  return _table(cells, entry) if cells else None


def pooled_table(
  records: Sequence[Record], rule: str = "lc_asgd"
) -> str | None:
  """Returns in how many cells, of all settings, a rule is better than others.

  Args:
    records: the runs, of any settings.
    rule: the rule.

  Returns:
    None if no other rule shares several cells with it.
  """
  lines = [
    ["rule", "cells", "better", "worse", "pairs", "p"],
    ["---", *["---:"] * 5],
  ]
  several = False
  for name in rules.ordered(_others(records, rule)):
    pooled = pooling.pooled(records, rule, name)
    if pooled is not None:
      several = several or pooled.cells > 1
      lines.append([name, *map(str, pooled[:-1]), _p_value(pooled.p_value)])
  return _markdown(lines) if several else None


def _others(records: Sequence[Record], rule: str) -> set[str]:
  return {record["rule"] for record in records} - {SEQUENTIAL, rule}


def _difference(difference: statistics.Difference) -> str:
  # + 0.0 makes 0 of -0.
  text = f"{round(difference.mean, 2) + 0.0:+.2f}"
  if not math.isnan(difference.standard_error):
    text += f" ± {difference.standard_error:.2f}"
  if math.isnan(difference.p_value):
    return text
  p_value = _p_value(difference.p_value)
  relation = "" if p_value.startswith("<") else "= "
  return f"{text}, p {relation}{p_value}"


def _p_value(p_value: float) -> str:
  return "< 0.001" if p_value < 0.001 else f"{p_value:.2g}"


def _table(
  cells: _Cells, entry: Callable[[str, int, list[Record]], str]
) -> str:
  """Returns a table of rules by numbers of workers; no cell, no entry."""
  columns = sorted({workers for _, workers in cells})
  lines = [
    ["workers", *map(str, columns)],
    ["---", *("---:" for _ in columns)],
  ]
  for rule in rules.ordered(rule for rule, _ in cells):
    lines.append([rule])
    for workers in columns:
      runs = cells.get((rule, workers))
      lines[-1].append(entry(rule, workers, runs) if runs else "")
  return _markdown(lines)


def _markdown(lines: Iterable[Iterable[str]]) -> str:
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)
