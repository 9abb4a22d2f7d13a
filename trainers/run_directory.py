"""What a run leaves behind, and how it is continued."""

import csv
import datetime
import fcntl
import io
import json
import os
import pathlib
import weakref

from lc_asgd_tf import errors, files

_PARENT = "lc_asgd_runs"


class RunDirectory:
  """The paths of one run.

      settings.json  the flags that a continued run must have, too
      model.keras    the trained model
      history.csv    one line per epoch, written as it ends
      history.json   the same as an object of lists
      checkpoints/   of the server, one per epoch, the latest two
      logs/          one file per task
      tensorboard/   summaries, if asked for
      trace.csv      the delay of every push, if asked for

  It belongs to one run for as long as this object or its process lives.

  Args:
    path: the directory; None for a new one.
    name: of the new one, in part.
    resume: whether to continue what the directory holds.

  Raises:
    UserError: if the directory holds a run and `resume` is not set, if it
      holds none and `resume` is set, if another run has it, or if it cannot be
      written.
  """

  def __init__(
    self, path: str | None, *, name: str = "run", resume: bool = False
  ) -> None:
    self._resumed = resume
    if path is None:
      if resume:
        raise errors.UserError(
          "--resume needs --output_dir, to say which run to continue."
        )
      now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
      path = os.path.join(_PARENT, f"{name}-{now}-{os.getpid()}")
    try:
      self.path = pathlib.Path(path).expanduser()
    except RuntimeError as error:
      raise errors.UserError(f"--output_dir={path}: {error}") from error
    try:
      self._check()
      self.logs.mkdir(parents=True, exist_ok=True)
      self._lock()
      # Fails early, and not after hours of training.
      self._probe()
    except OSError as error:
      raise errors.UserError(
        f"cannot write to {self.path}: {error.strerror}; pass another "
        "--output_dir."
      ) from error

  def _check(self) -> None:
    holds_run = self.checkpoints.exists() or self.history_csv.exists()
    if holds_run and not self._resumed:
      raise errors.UserError(
        f"{self.path} holds a run already: pass --resume to continue it, or "
        "another --output_dir."
      )
    for result in (self.model, self.history_json, self.trace):
      if result.exists() and not self._resumed:
        raise errors.UserError(
          f"{result} exists, and would be overwritten: pass another "
          "--output_dir."
        )
    if self._resumed and not holds_run:
      raise errors.UserError(
        f"{self.path} holds no run to continue: leave out --resume."
      )

  def _lock(self) -> None:
    folder = os.open(self.path, os.O_RDONLY)
    weakref.finalize(self, os.close, folder)
    try:
      fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise errors.UserError(
        f"a run that has not ended yet writes to {self.path}: wait for it, or "
        "pass another --output_dir."
      ) from None
    except OSError:
      pass  # Not every network file system can do this.

  def _probe(self) -> None:
    probe = self.path / ".writable"
    probe.touch()
    probe.unlink()

  def keep_settings(self, settings: dict[str, object]) -> None:
    """Writes down the flags of a run, or of a continued one compares them.

    Args:
      settings: values by the names of the flags.

    Raises:
      UserError: if it began with others, or the file is somebody else's.
    """
    began = self._read_settings()
    if not self._resumed:
      # A run that failed early may have left its own.
      if began is None or not began.keys() <= settings.keys():
        raise errors.UserError(
          f"{self.settings} exists, and would be overwritten: pass another "
          "--output_dir."
        )
      files.write_text(self.settings, json.dumps(settings, indent=2) + "\n")
      return
    if began is None:
      raise errors.UserError(
        f"{self.settings} is damaged: delete it, and continue with the flags "
        "that the run was begun with."
      )
    for name, value in settings.items():
      if name in began and began[name] != value:
        raise errors.UserError(
          f"{self.path} was begun with --{name}={began[name]}, which is "
          f"{value} now: continue it with the same flags."
        )

  def _read_settings(self) -> dict[str, object] | None:
    """Returns those that there are, perhaps none; None if they are damaged."""
    if not self.settings.exists():
      return {}
    try:
      settings = json.loads(self.settings.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
      return None
    return settings if isinstance(settings, dict) else None

  @property
  def settings(self) -> pathlib.Path:
    """The flags that a continued run must have, too."""
    return self.path / "settings.json"

  @property
  def model(self) -> pathlib.Path:
    """The trained model."""
    return self.path / "model.keras"

  @property
  def history_csv(self) -> pathlib.Path:
    """One line per epoch."""
    return self.path / "history.csv"

  @property
  def history_json(self) -> pathlib.Path:
    """The history as an object of lists."""
    return self.path / "history.json"

  @property
  def checkpoints(self) -> pathlib.Path:
    """Checkpoints of the server."""
    return self.path / "checkpoints"

  @property
  def logs(self) -> pathlib.Path:
    """One file per task."""
    return self.path / "logs"

  @property
  def tensorboard(self) -> pathlib.Path:
    """Summaries."""
    return self.path / "tensorboard"

  @property
  def trace(self) -> pathlib.Path:
    """The delay of every push."""
    return self.path / "trace.csv"

  def keep_epochs(self, epochs: int, damaged: int = 0) -> None:
    """Drops history from that epoch on, which is about to be repeated.

    Args:
      epochs: how many the checkpoint has seen from which the run goes on.
      damaged: how many later checkpoints there are that cannot be read.

    Raises:
      UserError: if there is more of it than a run can have without a later
        checkpoint; then that is lost, and the history is left as it is. So it
        is if there is less.
    """
    rows, later = [], []
    for row in self.history():
      (rows if int(row["epoch"]) < epochs else later).append(row)
    # A run that dies between the two has one more epoch in its history.
    if len(later) > 1 + damaged:
      raise errors.UserError(
        f"{self.history_csv} goes on after epoch {epochs}, up to which there "
        f"are checkpoints in {self.checkpoints}: put the missing ones back, or "
        "begin anew in another --output_dir."
      )
    if [int(row["epoch"]) for row in rows] != list(range(epochs)):
      raise errors.UserError(
        f"{self.history_csv} does not have each of the {epochs} epochs that "
        f"the checkpoint in {self.checkpoints} has seen: put it back as it "
        "was, or begin anew in another --output_dir."
      )
    if not rows:
      self.history_csv.unlink(missing_ok=True)
      return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(self.history_csv, text.getvalue())

  def sync_history(self) -> None:
    """Sees to it that `history_csv` outlives a crash of the machine."""
    with open(self.history_csv, "rb") as file:
      os.fsync(file.fileno())

  def history(self) -> list[dict[str, str]]:
    """Returns the lines of the history, as text.

    A last line without its end, as a crash of the machine may leave it, is not
    read.

    Raises:
      UserError: if it is no such file, or a line has not a number for every
        name in the first.
    """
    if not self.history_csv.exists():
      return []
    # What is no text is no number either.
    with open(
      self.history_csv, newline="", encoding="utf-8", errors="replace"
    ) as file:
      text = file.read()
    lines = text[: text.rfind("\n") + 1].splitlines()
    try:
      rows = list(csv.DictReader(lines))
    except csv.Error as error:
      raise errors.UserError(
        f"{self.history_csv} is damaged ({error}): put it right, or begin anew "
        "in another --output_dir."
      ) from error
    for number, row in enumerate(rows, start=2):
      try:
        int(row["epoch"])
        for value in row.values():
          float(value)
      except (KeyError, TypeError, ValueError) as error:
        raise errors.UserError(
          f"{self.history_csv}, line {number}, is damaged: put it right, or "
          "begin anew in another --output_dir."
        ) from error
    return rows

  def write_history_json(self) -> dict[str, list[float | None]]:
    """Writes `history_json` from `history_csv`, and returns it."""
    rows = self.history()
    history = {
      name: [finite(float(row[name])) for row in rows]
      for name in (rows[0] if rows else {})
    }
    files.write_text(self.history_json, json.dumps(history, indent=2) + "\n")
    return history

  def save_model(self, model) -> None:
    """Saves a Keras model, whole or not at all."""
    files.write(self.model, model.save)


def finite(value: float) -> float | None:
  """Returns the value, or None where JSON has no number for it."""
  return value if abs(value) < float("inf") else None
