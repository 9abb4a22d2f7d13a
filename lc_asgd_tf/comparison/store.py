"""Where results are kept: one JSON object per line, one line per cell."""

import dataclasses
import json
import os
import pathlib

from lc_asgd_tf import errors, files
from lc_asgd_tf.comparison import cell as cell_lib

FILE_NAME = "results.jsonl"

_FIELDS = tuple(field.name for field in dataclasses.fields(cell_lib.Cell))

# Of every line.
_BEGINNING = f'{{"{_FIELDS[0]}": '


class Store:
  """Results of a comparison, on disk as soon as they are there.

  Several processes may keep theirs in one directory at once.

  Args:
    directory: where `results.jsonl` is, or is to be; created if missing.

  Raises:
    UserError: if the directory cannot be used, or the file in it is malformed.
  """

  def __init__(self, directory: str | os.PathLike[str]) -> None:
    self.path = pathlib.Path(directory) / FILE_NAME
    try:
      self.path.parent.mkdir(parents=True, exist_ok=True)
      self.path.touch()
      # Changed only if it is ours.
      read(self.path)
      files.mend_last_line(self.path, _is_result)
      self._records = read(self.path)
    except OSError as error:
      raise errors.UserError(
        f"cannot keep results in {directory}: {error.strerror}."
      ) from error

  @property
  def records(self) -> list[dict[str, object]]:
    """All records so far."""
    return list(self._records)

  def missing(
    self, cells: list[cell_lib.Cell], judged: bool = False
  ) -> list[cell_lib.Cell]:
    """Returns those of the cells that have no result yet, each once.

    Args:
      cells: the cells that are asked for.
      judged: whether a result must judge the predictor (see `oracle`).
    """
    known = {
      cell_of(record)
      for record in self._records
      if not judged or "change_mae" in record
    }
    return [cell for cell in dict.fromkeys(cells) if cell not in known]

  def select(self, cells: list[cell_lib.Cell]) -> list[dict[str, object]]:
    """Returns the records of these cells, in the order of the cells."""
    known = {cell_of(record): record for record in self._records}
    return [known[cell] for cell in dict.fromkeys(cells) if cell in known]

  def add(self, cell: cell_lib.Cell, result: dict[str, object]) -> None:
    """Writes one result; it is on disk when the call returns."""
    record = dataclasses.asdict(cell) | result
    line = json.dumps(record, allow_nan=False) + "\n"
    # Somebody else may have been killed since this was opened.
    files.append(self.path, line.encode(), durable=True, is_whole=_is_result)
    self._records.append(record)


def cell_of(record: dict[str, object]) -> cell_lib.Cell:
  """Returns the cell that a record is of."""
  return cell_lib.Cell(**{name: record[name] for name in _FIELDS})


def read(path: str | os.PathLike[str]) -> list[dict[str, object]]:
  """Returns the records of a file, or of the `results.jsonl` in a directory.

  A part of a last line, as a killed run leaves it, is not read.

  Raises:
    UserError: if there is no such file, or a line is no result.
  """
  path = pathlib.Path(path)
  try:
    if path.is_dir():
      path /= FILE_NAME
    text = path.read_text(encoding="utf-8")
  except (OSError, UnicodeDecodeError) as error:
    reason = getattr(error, "strerror", None) or "it is no text"
    raise errors.UserError(
      f"cannot read results from {path}: {reason}."
    ) from error
  *lines, last = text.split("\n")
  if not _is_part(last):
    lines.append(last)
  records = []
  for number, line in enumerate(lines, start=1):
    try:
      records.append(_parse(line))
    except ValueError as error:
      raise errors.UserError(
        f"{path}, line {number}, is no result of lc-asgd-compare."
      ) from error
  return records


def _is_part(line: str) -> bool:
  """Returns whether a line is the beginning of a result, and no more."""
  if not (line.startswith(_BEGINNING) or _BEGINNING.startswith(line)):
    return False
  try:
    json.loads(line)
  except (ValueError, RecursionError):
    return True
  return False


def _is_result(line: str | bytes) -> bool:
  try:
    _parse(line)
  except ValueError:
    return False
  return True


def _parse(line: str | bytes) -> dict[str, object]:
  """Returns the record in a line.

  Raises:
    ValueError: if there is none.
  """
  try:
    record = json.loads(line)
    hash(cell_of(record))  # As `Store` will.
  except (TypeError, KeyError, RecursionError) as error:
    raise ValueError("The line is no result.") from error
  return record
