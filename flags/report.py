"""Flags of what a report is about and where it goes."""

import dataclasses
import os

from absl import flags

from flags import folder, target_error


@dataclasses.dataclass(frozen=True)
class ReportOptions:
  """What the flags of this group say.

  Attributes:
    results: a results.jsonl, or the directory that has one.
    output_dir: where the report goes; None for where the results are.
    target_error: the test error to which the time is measured, a fraction;
      None for one that follows from the sequential runs.
  """

  results: str
  output_dir: str | None
  target_error: float | None


def define() -> None:
  """Registers the flags of this group."""
  flags.DEFINE_string(
    "results",
    None,
    "The results of lc-asgd-compare: results.jsonl or the directory with it.",
    required=True,
  )
  folder.check("results")
  flags.DEFINE_string(
    "output_dir",
    None,
    "Directory for report.md and its plots; by default that of the results.",
  )
  folder.check("output_dir")
  target_error.define()


def read() -> ReportOptions:
  """Returns the parsed flags of this group."""
  values = flags.FLAGS
  return ReportOptions(
    results=os.path.expanduser(values.results),
    output_dir=values.output_dir and os.path.expanduser(values.output_dir),
    target_error=values.target_error,
  )
