"""What a record of a training run says of each of its epochs."""

import reprlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lc_asgd_tf import errors

Record = Mapping[str, Any]
"""One line of results.jsonl: a training run, and what came of it."""

# What reports need of every record; a list is one of epochs, and a dictionary
# one of counts.
_KINDS = {
  "dataset": str,
  "model": str,
  "rule": str,
  "num_workers": int,
  "delays": str,
  "inner_optimizer": str,
  "learning_rate": int | float,
  "momentum": int | float,
  "batch_size": int,
  "epochs": int,
  "seed": int,
  "batch_norm": str,
  "train_split": str | None,
  "test_split": str | None,
  "test_error": int | float,
  "failed": bool,
  "history": list,
}
# What they use if it is there.
_KINDS_IF_THERE = {
  "staleness": dict | None,
  "change_mae": int | float | None,
  "change_mae_persistence": int | float | None,
  "step_mae": int | float | None,
  "step_mae_persistence": int | float | None,
}

SEQUENTIAL = "sequential"
"""The rule of runs with one worker, where all rules are the same."""


def column(record: Record, name: str) -> np.ndarray:
  """Returns a quantity at each epoch, shape=(epochs,); NaN where unknown."""
  values = [epoch.get(name) for epoch in record["history"]]
  return np.array([np.nan if v is None else v for v in values], np.float64)


def pushes(record: Record) -> np.ndarray:
  """Returns how many pushes there were until the end of each epoch."""
  return np.cumsum(column(record, "pushes"))


def in_seconds(record: Record) -> bool:
  """Returns whether virtual time is in seconds, as a trace records it."""
  return record["delays"].endswith(".csv")


def times(record: Record) -> np.ndarray:
  """Returns the virtual time at the end of each epoch.

  A sequential run has no clock: each of its pushes takes 1, as a step of
  simulated workers does on average over the workers (of which the fast ones do
  more steps than the others). Beside workers of a trace, which take as
  many seconds as were recorded, its times are NaN.
  """
  if record["rule"] == SEQUENTIAL:
    return pushes(record) * (np.nan if in_seconds(record) else 1.0)
  return column(record, "virtual_time")


def test_errors(record: Record) -> np.ndarray:
  """Returns the test error at each epoch, a fraction; NaN where not measured.

  That of the last epoch is the run's.
  """
  values = column(record, "test_error")
  values[-1:] = record["test_error"]
  return values


def check(records: Sequence[Record], source: object) -> None:
  """Raises a `UserError` unless a report can be made of these records.

  Args:
    records: of training runs, perhaps.
    source: where they come from.
  """
  for number, record in enumerate(records, start=1):
    for name, kind in (_KINDS | _KINDS_IF_THERE).items():
      if name not in record:
        if name in _KINDS_IF_THERE:
          continue
        raise errors.UserError(
          f"{source}: record {number} has no {name!r}: no run of "
          "lc-asgd-compare wrote it."
        )
      if not _is(record[name], kind):
        raise errors.UserError(
          f"{source}: record {number} has the {name!r} "
          f"{reprlib.repr(record[name])}: no run of lc-asgd-compare wrote it."
        )


def _is(value: object, kind: type) -> bool:
  """Returns whether a value of JSON is of this kind."""
  if isinstance(value, bool):
    return kind is bool
  if not isinstance(value, kind):
    return False
  if isinstance(value, list):
    return all(map(_is_epoch, value))
  if isinstance(value, dict):
    return all(name.isdecimal() for name in value) and all(
      map(_is_number, value.values())
    )
  return value is None or isinstance(value, str) or _is_number(value)


def _is_epoch(value: object) -> bool:
  """Returns whether it is an entry of the history.

  It holds numbers, None where there is none, and a list of what a rule
  remembers.
  """
  return isinstance(value, dict) and all(
    isinstance(entry, list)
    if name == "signals"
    else entry is None or _is_number(entry)
    for name, entry in value.items()
  )


def _is_number(value: object) -> bool:
  # JSON has larger ones of both kinds than NumPy.
  largest = 2**63 - 1 if isinstance(value, int) else sys.float_info.max
  return isinstance(value, (int, float)) and abs(value) <= largest
