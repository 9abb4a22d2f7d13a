"""Plots of the runs of one setting at chosen learning rates.

Each function returns a new figure, or None where there is nothing to draw. None
of them uses `pyplot` or any other state that figures share.
"""

import math
from collections.abc import Mapping, Sequence

import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker
import numpy as np

from lc_asgd_tf.reports import figures, rules, statistics
from lc_asgd_tf.reports import record as record_lib
from lc_asgd_tf.reports import styles as styles_lib
from lc_asgd_tf.reports.record import SEQUENTIAL, Record

_PUSHES = "pushes"
_TIME = "virtual time (a step takes 1 on average over the workers)"
_SECONDS = "virtual time in seconds"
_MAX_BARS = 40

Styles = Mapping[str, styles_lib.Style]


def error_by_workers(
  records: Sequence[Record], title: str = "", styles: Styles | None = None
) -> matplotlib.figure.Figure | None:
  """Draws test errors against the number of workers.

  Args:
    records: the runs.
    title: of the figure.
    styles: of the rules; None for those of `styles.styles`.
  """
  cells = statistics.cells(records)
  if not cells:
    return None
  names = rules.ordered(rule for rule, _ in cells)
  styles = styles or styles_lib.styles(names)
  figure, (axes,) = figures.new(1, title, entries=len(names))
  alpha = min(0.12, 1 / len(names))  # Of bands on bands.
  for rule in names:
    by_workers = {
      workers: statistics.errors(runs)
      for (name, workers), runs in sorted(cells.items())
      if name == rule
    }
    workers = list(by_workers)
    mean = np.array([errors.mean for errors in by_workers.values()])
    band = np.nan_to_num([errors.deviation for errors in by_workers.values()])
    low, high = mean - band, mean + band
    if rule == SEQUENTIAL:
      axes.axhline(
        mean[0], label=rule, zorder=1, **styles[rule].arguments(False)
      )
      axes.axhspan(low[0], high[0], color="black", alpha=0.07, linewidth=0)
      continue
    axes.plot(workers, mean, label=rule, **styles[rule].arguments(True))
    color = styles[rule].color
    if len(workers) == 1:
      # A band has no width there.
      axes.errorbar(workers, mean, band, color=color, capsize=3)
    axes.fill_between(workers, low, high, color=color, alpha=alpha, linewidth=0)
  figures.set_scale(
    axes, [statistics.errors(runs).mean for runs in cells.values()]
  )
  axes.set_xscale("log", base=2)
  ticks = sorted({workers for rule, workers in cells if rule != SEQUENTIAL})
  axes.set_xticks(ticks or [1], labels=map(str, ticks or [1]))
  axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
  axes.set_xlabel("workers")
  axes.set_ylabel("test error in percent (mean ± std. dev.)")
  figures.legend(figure, axes)
  return figure


def training_loss(
  records: Sequence[Record],
  num_workers: int | None = None,
  title: str = "",
  styles: Styles | None = None,
) -> matplotlib.figure.Figure | None:
  """Draws training losses against pushes, and against virtual time.

  A line is the mean over seeds. It ends where the loss of a seed does.

  Args:
    records: the runs.
    num_workers: whose runs are drawn, beside the sequential ones; None for the
      largest number.
    title: of the figure, to which the number of workers is added.
    styles: of the rules; None for those of `styles.styles`.
  """
  num_workers = num_workers or _most_workers(records)
  curves = {
    rule: runs
    for (rule, workers), runs in statistics.cells(records).items()
    if rule == SEQUENTIAL or workers == num_workers
  }
  if not any(_mean(runs, _losses).size for runs in curves.values()):
    return None
  styles = styles or styles_lib.styles(curves)
  title = f"{title}, {num_workers} workers".removeprefix(", ")
  figure, panels = figures.new(2, title, entries=len(curves))
  time = _SECONDS if record_lib.in_seconds(records[0]) else _TIME
  for axes, name, positions in zip(
    panels, (_PUSHES, time), (record_lib.pushes, record_lib.times), strict=True
  ):
    for rule in rules.ordered(curves):
      loss = _mean(curves[rule], _losses)
      where = _mean(curves[rule], positions)
      length = min(loss.size, where.size)
      ends_early = loss.size < curves[rule][0]["epochs"]
      axes.plot(
        where[:length],
        loss[:length],
        label=f"{rule} (ends early)" if ends_early else rule,
        # Of a single point there is no line.
        markevery=[-1] if ends_early or length == 1 else [],
        **styles[rule].arguments(True),
      )
    axes.set_xlabel(name)
    figures.set_scale(axes, figures.drawn(axes))
  panels[0].set_xlim(left=0)
  # A sequential run takes as many times longer as there are workers.
  panels[1].set_xscale("log")
  figures.label_decades(panels[1].xaxis, panels[1].get_xlim())
  panels[0].set_ylabel("training loss (mean of an epoch and over seeds)")
  figures.legend(figure, panels[0])
  return figure


def predicted_loss(
  records: Sequence[Record], rule: str = "lc_asgd", title: str = ""
) -> matplotlib.figure.Figure | None:
  """Draws the predicted beside the observed loss of one run.

  Args:
    records: the runs; that of the most workers and lowest seed is drawn.
    rule: whose run.
    title: of the figure, to which rule, number of workers and seed are added.
  """
  predicting = [
    record
    for record in records
    if record["rule"] == rule
    and not np.isnan(record_lib.column(record, "predicted_loss")).all()
  ]
  if not predicting:
    return None
  record = min(predicting, key=lambda r: (-r["num_workers"], r["seed"]))
  run = f"{rule}, {record['num_workers']} workers, seed {record['seed']}"
  figure, (axes,) = figures.new(1, f"{title}\n{run}".strip())
  where = record_lib.pushes(record)
  axes.plot(
    where,
    record_lib.column(record, "loss"),
    "o-",
    color="#0072B2",
    markersize=4,
    label="observed,\nmean of the epoch",
  )
  axes.plot(
    where,
    record_lib.column(record, "predicted_loss"),
    "x--",
    color="#D55E00",
    markersize=5,
    label="predicted\nat its end",
  )
  axes.set_xlabel(_PUSHES)
  axes.set_xlim(left=0)
  axes.set_ylabel("training loss")
  figures.set_scale(axes, figures.drawn(axes))
  figures.legend(figure, axes)
  return figure


def staleness(
  records: Sequence[Record], rule: str = "lc_asgd", title: str = ""
) -> matplotlib.figure.Figure | None:
  """Draws how stale the pushes of one rule are, one panel per worker count.

  The axis ends at the 99.5th percentile; the largest value is said in words.

  Args:
    records: the runs; those that differ in the seed are added up.
    rule: whose runs.
    title: of the figure, to which the rule is added.
  """
  counts: dict[int, dict[int, int]] = {}
  for record in records:
    if record["rule"] == rule:
      for value, count in (record.get("staleness") or {}).items():
        of_workers = counts.setdefault(record["num_workers"], {})
        of_workers[int(value)] = of_workers.get(int(value), 0) + count
  if not counts:
    return None
  title = f"{title}, {rule}".removeprefix(", ")
  figure, panels = figures.new(len(counts), title, width=3.2, height=2.3)
  for axes, (workers, count) in zip(
    panels, sorted(counts.items()), strict=True
  ):
    values = np.array(sorted(count))
    shares = np.array([count[value] for value in values], np.float64)
    shares *= 100 / shares.sum()
    _histogram(axes, values, shares)
    axes.set_title(
      f"{workers} workers: mean {shares @ values / 100:.1f}, "
      f"largest {values[-1]}",
      fontsize=figures.FONT_SIZE,
    )
  figure.supxlabel("staleness in updates", fontsize=figures.FONT_SIZE)
  figure.supylabel("latest pushes in percent", fontsize=figures.FONT_SIZE)
  return figure


def _histogram(
  axes: matplotlib.axes.Axes, values: np.ndarray, shares: np.ndarray
) -> None:
  """Draws shares of whole numbers, those beside each other together if many."""
  inside = values[np.cumsum(shares) - shares < 99.5]
  first, last = int(inside[0]), int(inside[-1])
  width = math.ceil((last + 1 - first) / _MAX_BARS)
  edges = np.arange(first, last + width + 1, width) - 0.5
  axes.hist(values, bins=edges, weights=shares, color="#0072B2", rwidth=0.9)
  axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=True))
  axes.set_xlim(edges[0] - width / 2, edges[-1] + width / 2)


def _most_workers(records: Sequence[Record]) -> int:
  return max((record["num_workers"] for record in records), default=1)


def _losses(record: Record) -> np.ndarray:
  return record_lib.column(record, "loss")


def _mean(records: Sequence[Record], quantity) -> np.ndarray:
  """Returns the mean over runs, as far as all of them have a value."""
  values = [quantity(record) for record in records]
  length = min(value.size for value in values)
  mean = np.mean([value[:length] for value in values], axis=0)
  missing = np.flatnonzero(np.isnan(mean))
  return mean[: missing[0]] if missing.size else mean
