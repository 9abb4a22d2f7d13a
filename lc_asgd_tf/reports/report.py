"""A report: tables and plots of all settings, as a Markdown file and PNGs."""

import os
import pathlib
from collections.abc import Iterator, Sequence

from lc_asgd_tf import errors, files
from lc_asgd_tf.reports import (
  captions,
  figures,
  plots,
  rules,
  settings,
  statistics,
  table,
)
from lc_asgd_tf.reports import record as record_lib
from lc_asgd_tf.reports import styles as styles_lib
from lc_asgd_tf.reports.record import SEQUENTIAL, Record
from lc_asgd_tf.reports.settings import Setting

FILE_NAME = "report.md"

_RULE = "lc_asgd"
# Drawn again beside the rules that are not the library's.
_REFERENCES = (SEQUENTIAL, "asgd", _RULE)
# How much worse than the sequential run's the default target error is.
_SLACK = 0.05
_CHOICES = {
  statistics.INHERITED: "Learning rate of the sequential run",
  statistics.TUNED: "Learning rate of each rule's own",
}


def write(
  records: Sequence[Record],
  directory: str | os.PathLike[str],
  target_error: float | None = None,
) -> str:
  """Writes `report.md` and its plots.

  Args:
    records: training runs, as `results.jsonl` has them; of any settings.
    directory: where to; created if missing. Files of an earlier report on the
      same settings are replaced.
    target_error: the test error, a fraction, to which the virtual time is
      measured; None for 5 points more than the sequential run's mean.

  Returns:
    The Markdown.

  Raises:
    UserError: if there are no records, or the directory cannot be written.
  """
  if not records:
    raise errors.UserError("there are no results to report on.")
  directory = pathlib.Path(directory)
  try:
    directory.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(_parts(records, directory, target_error)) + "\n"
    files.write_text(directory / FILE_NAME, text)
  except OSError as error:
    raise errors.UserError(
      f"cannot write a report to {directory}: {error.strerror}."
    ) from error
  return text


def default_target_error(records: Sequence[Record]) -> float | None:
  """Returns the mean error of the sequential runs plus 5 points, a fraction.

  Args:
    records: the runs of one setting.

  Returns:
    The target, from the sequential runs at their best learning rate; None
    without such runs.
  """
  sequential = [
    record
    for record in statistics.inherited(records)
    if record["rule"] == SEQUENTIAL
  ]
  if not sequential:
    return None
  return statistics.errors(sequential).mean / 100 + _SLACK


def _parts(records, directory, target_error) -> Iterator[str]:
  """Yields the paragraphs of the whole report; writes the plots."""
  by_setting = settings.by_setting(records)
  titles = [setting.title for setting in by_setting]
  styles = styles_lib.styles(record["rule"] for record in records)
  yield "# Rules of asynchronous SGD compared"
  for setting, runs in by_setting.items():
    heading = setting.title
    if titles.count(heading) > 1:
      heading += f", {setting.details}"
    yield f"## {heading}"
    target = target_error
    if target is None:
      target = default_target_error(runs)
    choices = statistics.choices(runs)
    grid = statistics.learning_rates(runs)
    for choice, chosen in choices.items():
      if len(choices) > 1:
        yield f"### {_CHOICES[choice]}"
      yield from _tables(
        chosen, captions.common(chosen, choice, grid), choice, target
      )
      yield from _plots(setting, chosen, choice, styles, directory)
  runs = [record for runs in by_setting.values() for record in runs]
  if pooled := table.pooled_table(runs, _RULE):
    yield "## All cells together"
    yield captions.pooled(_RULE)
    yield pooled


def _tables(records, common, choice, target_error) -> Iterator[str]:
  yield captions.errors(common)
  yield table.error_table(records)
  if choice == statistics.TUNED:
    yield captions.learning_rates(common)
    yield table.learning_rate_table(records)
  if target_error is not None:
    in_seconds = record_lib.in_seconds(records[0])
    yield captions.times(common, target_error, in_seconds)
    yield table.time_table(records, target_error)
  if paired := table.paired_table(records, _RULE):
    yield captions.paired(common, _RULE)
    yield paired
  for what in ("change", "step"):
    if predictions := table.prediction_table(records, what):
      yield captions.predictions(common, what)
      yield predictions


def _plots(
  setting: Setting, records, choice, styles, directory
) -> Iterator[str]:
  """Writes the plots there is something to draw for; yields links to them."""
  title = setting.title
  for kind, text, figure in [
    *_comparisons(records, title, styles),
    (
      "prediction",
      "Predicted and observed loss",
      plots.predicted_loss(records, _RULE, title),
    ),
    (
      "staleness",
      "Staleness by number of workers",
      plots.staleness(records, _RULE, title),
    ),
  ]:
    if figure is not None:
      name = f"{kind}-{setting.file_name}-{choice}.png"
      figures.save(figure, directory / name)
      yield f"![{text}]({name})"


def _comparisons(records, title, styles) -> Iterator[tuple]:
  """Yields kind, text and figure; more rules than the library's apart."""
  known = [record for record in records if record["rule"] in rules.NAMED]
  groups = {"": known or records}
  if known and len(known) < len(records):
    groups["_others"] = [
      record
      for record in records
      if record["rule"] not in rules.NAMED or record["rule"] in _REFERENCES
    ]
  for group, members in groups.items():
    yield (
      f"error{group}",
      "Test error by number of workers",
      plots.error_by_workers(members, title, styles),
    )
    yield (
      f"loss{group}",
      "Training loss against pushes and against virtual time",
      plots.training_loss(members, None, title, styles),
    )
