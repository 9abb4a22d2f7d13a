"""Delays that were measured."""

import csv
import os

import keras
import numpy as np

from lc_asgd_tf import arguments, errors
from lc_asgd_tf.delays import delays

_COLUMNS = ("worker", "seconds")
_REST = "rest_seconds"


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class Trace(delays.Delays):
  """Delays from a CSV file with the columns `worker` and `seconds`.

  One line per step, in each worker's own order. Simulated worker m replays
  recorded worker m modulo how many were recorded, over and over; after 4096
  steps, or as many as the longest recording has, from its beginning. A third
  column, `rest_seconds`, says how long the worker rested before it pulled: a
  real one has pulled nothing between two dispatches, or two epochs.

  Args:
    path: the file.
    seed: not read; for the sake of one signature.

  Raises:
    UserError: if the file cannot be read, or is not such a file.
  """

  def __init__(self, path: str | os.PathLike[str], seed: int = 0) -> None:
    super().__init__(seed)
    self.path = os.fspath(path)
    self._steps = _read(self.path)

  def _draw(self, rng, num_workers):
    del rng
    return self._replay(0, num_workers)

  def rests(self, num_workers):
    """Returns the recorded rests; None if there are none."""
    rests = self._replay(1, num_workers)
    return rests if np.any(rests) else None

  def _replay(self, column, num_workers):
    # No worker's steps are cut off.
    length = max(delays.LENGTH, *map(len, self._steps))
    return np.stack(
      [
        np.resize(
          [step[column] for step in self._steps[worker % len(self._steps)]],
          length,
        )
        for worker in range(num_workers)
      ]
    )

  def get_config(self):
    """Returns the constructor's arguments."""
    return super().get_config() | {"path": self.path}

  @classmethod
  def from_config(cls, config):
    """Returns the trace of a config; its file must be where it was."""
    try:
      return super().from_config(config)
    except errors.UserError as error:
      raise errors.UserError(
        f"{error} A model that was trained with it is loaded without it by "
        "keras.models.load_model(..., compile=False)."
      ) from error


def _read(path: str) -> list[list[tuple[float, float]]]:
  try:
    # With or without the mark that some spreadsheets put in front.
    with open(path, newline="", encoding="utf-8-sig") as file:
      steps = _parse(path, csv.DictReader(file))
  except errors.UserError:
    raise
  except (OSError, ValueError) as error:
    reason = getattr(error, "strerror", None) or error
    raise errors.UserError(
      f"cannot read the trace {path!r}: {reason}."
    ) from error
  if not steps:
    raise errors.UserError(f"the trace {path} has no steps.")
  return [steps[worker] for worker in sorted(steps)]


def _parse(path: str, reader: csv.DictReader) -> dict[int, list]:
  steps = {}
  try:
    if not set(_COLUMNS) <= set(reader.fieldnames or ()):
      raise errors.UserError(
        f"{path} has no columns {' and '.join(_COLUMNS)}: record a trace."
      )
    for row in reader:
      if None in row:
        raise ValueError("There are more fields than columns.")
      seconds = arguments.check_positive("seconds", row["seconds"])
      rest = arguments.check_not_negative(_REST, row.get(_REST) or 0.0)
      steps.setdefault(int(row["worker"]), []).append((seconds, rest))
  except errors.UserError:
    raise
  except (TypeError, ValueError, csv.Error) as error:
    raise errors.UserError(
      f"{path}, line {reader.line_num}, is not a worker and its seconds."
    ) from error
  return steps
