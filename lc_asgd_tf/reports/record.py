"""What a record of a training run says of each of its epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Record = Mapping[str, Any]
"""One line of results.jsonl: a training run, and what came of it."""

SEQUENTIAL = "sequential"
"""The rule of runs with one worker, where all rules are the same."""


def column(record: Record, name: str) -> np.ndarray:
  """Returns a quantity at each epoch, shape=(epochs,); NaN where unknown."""
  values = [epoch.get(name) for epoch in record["history"]]
  return np.array([np.nan if v is None else v for v in values], np.float64)


def pushes(record: Record) -> np.ndarray:
  """Returns how many pushes there were until the end of each epoch."""
  return np.cumsum(column(record, "pushes"))


def times(record: Record) -> np.ndarray:
  """Returns the virtual time at the end of each epoch.

  A sequential run has no clock: each of its pushes takes 1, as a step of a
  simulated worker does on average.
  """
  if record["rule"] == SEQUENTIAL:
    return pushes(record)
  return column(record, "virtual_time")


def test_errors(record: Record) -> np.ndarray:
  """Returns the test error at each epoch, a fraction; NaN where not measured.

  That of the last epoch is the run's.
  """
  values = column(record, "test_error")
  values[-1:] = record["test_error"]
  return values


def complete(records: Sequence[Record]) -> list[Record]:
  """Returns the records with the pushes that an epoch leaves out.

  Sequential runs count none. Runs on the same data with the same batch size, as
  these must be, take the same number in an epoch, whatever their rule.
  """
  counts: dict[int, float] = {}
  for record in records:
    for epoch, count in enumerate(column(record, "pushes")):
      if not np.isnan(count):
        counts.setdefault(epoch, float(count))
  return [_with_pushes(record, counts) for record in records]


def _with_pushes(record: Record, counts: Mapping[int, float]) -> Record:
  history = [
    dict(entry) | {"pushes": counts.get(epoch)}
    if entry.get("pushes") is None
    else entry
    for epoch, entry in enumerate(record["history"])
  ]
  return dict(record) | {"history": history}
