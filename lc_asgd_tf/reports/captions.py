"""The lines above the tables."""

from collections.abc import Sequence

from lc_asgd_tf.reports import settings, statistics
from lc_asgd_tf.reports.record import Record

_PREDICTIONS = {
  "change": "of the predicted change of the loss, in units of the loss,",
  "step": "of the predicted staleness, in updates,",
}


def common(
  records: Sequence[Record], choice: str, grid: Sequence[float]
) -> str:
  """Returns what these runs are, in one sentence.

  Args:
    records: runs at the chosen learning rates.
    choice: how they were chosen, `statistics.INHERITED` or `TUNED`.
    grid: the learning rates that there were to choose from.
  """
  setting = settings.setting_of(records[0])
  tried = ", ".join(f"{rate:g}" for rate in grid)
  if len(grid) == 1:
    rate = f"learning rate {tried}"
  elif choice == statistics.INHERITED:
    chosen = statistics.learning_rates(records)[0]
    rate = f"learning rate {chosen:g}, of {tried} the sequential run's best"
  else:
    rate = (
      "each rule and number of workers at that learning rate, of those among "
      f"{tried} that it was run with, at which its mean test error is lowest"
    )
  return f"{setting.title}, {setting.details}; {rate}; {_seeds(records)}."


def errors(common: str) -> str:
  """Returns the line above `error_table`."""
  return (
    f"**Test error in percent** by number of workers: {common} Mean ± standard "
    "deviation over seeds; in brackets the number of failed runs, which count "
    "like the others; in bold the best rule for each number of workers."
  )


def learning_rates(common: str) -> str:
  """Returns the line above `learning_rate_table`."""
  return f"**Learning rates** of these runs: {common}"


def times(common: str, target_error: float, in_seconds: bool = False) -> str:
  """Returns the line above `time_table`.

  Args:
    common: what these runs are.
    target_error: a fraction.
    in_seconds: whether the times are (see `record.in_seconds`).
  """
  unit = (
    "in seconds"
    if in_seconds
    else "where a step takes 1 on average over the workers"
  )
  return (
    "**Virtual time** until the test error is first measured to be at most "
    f"{100 * target_error:.3g} percent: {common} Mean over seeds, {unit}; ≤ "
    "where it already was when it was first measured; - where not every seed "
    "gets there, or one fails."
  )


def predictions(common: str, what: str) -> str:
  """Returns the line above `prediction_table`."""
  return (
    f"**Mean absolute error** {_PREDICTIONS[what]} / that of persistence, the "
    f"prediction that nothing changes: {common}"
  )


def paired(common: str, rule: str = "lc_asgd") -> str:
  """Returns the line above `paired_table`."""
  return (
    f"**Test error of {rule} minus that of each other rule**, in points, "
    f"negative where {rule} is better: {common} Mean ± standard error over the "
    "seeds that both have, failed runs included; p of the two-sided paired "
    "t-test, not corrected for the number of comparisons."
  )


def pooled(rule: str = "lc_asgd") -> str:
  """Returns the line above `pooled_table`."""
  return (
    f"**In how many cells {rule} is better and worse than each other rule**: a "
    "cell is a setting, a number of workers and a learning rate, and counts if "
    "both have several seeds in common there; what differs only in batch_norm "
    "or the test split is one; pairs of runs in all cells; p of no difference "
    "in any, two-sided, which combines the cells' paired t-tests by Stouffer's "
    "method, each weighed by the root of its pairs, as if cells that share "
    "seeds were independent."
  )


def _seeds(records: Sequence[Record]) -> str:
  counts = {len(runs) for runs in statistics.cells(records).values()}
  least, most = min(counts), max(counts)
  text = f"{most}" if least == most else f"{least} to {most}"
  return f"{text} seed" if most == 1 else f"{text} seeds"
