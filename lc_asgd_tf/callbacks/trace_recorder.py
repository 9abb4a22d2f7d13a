"""Records how long the workers of a cluster take."""

import os
import time

import keras
import numpy as np
from absl import logging

from lc_asgd_tf import files, parameter_server
from lc_asgd_tf.predictors import journal

# A trace's delays are positive; a clock may stand still, or be set back.
_SHORTEST_SECONDS = 1e-6
# A rest this short is the time that a step takes to begin.
_SHORTEST_REST_SECONDS = 1e-3
# Between two readings, until the pace of the pushes is known, and at least.
_PAUSE_SECONDS = 1.0
_MIN_PAUSE_SECONDS = 0.05


class TraceRecorder(keras.callbacks.Callback):
  """Writes the delay of every push to a file for `lc_asgd_tf.delays.Trace`.

  A delay is what the worker reports with its push: the time from pull to
  gradient, and that of its previous push and pull. Before the first step of a
  dispatch nobody measures the latter: it is taken to be what it was last, and
  the worker to have rested for the rest of the time since it computed its
  previous gradient. The file is a CSV with the columns `worker`, `seconds` and
  `rest_seconds`, one line per push in the order of arrival, and can be read at
  any time.

  The server keeps only the latest reports. They are read at the end of every
  epoch, and in between at the end of a dispatch, whenever half of them may be
  new. If one worker keeps the coordinator waiting for so long that the others
  write over reports that were not read, these are missing in the file, and a
  warning says how many.

  Example:
  ```python
  recorder = lc_asgd_tf.callbacks.TraceRecorder(trainer, "trace.csv")
  trainer.fit(dataset_fn, epochs=1, callbacks=[recorder])

  delays = lc_asgd_tf.delays.Trace("trace.csv")
  model.compile(lc_asgd_tf.LCASGD(0.1, num_workers=64, delays=delays), ...)
  ```

  Args:
    trainer: the trainer whose workers are meant.
    path: the file, on the coordinator's file system.
    append: whether `fit` goes on with the file, if there is one, rather than
      writing it anew.
  """

  def __init__(
    self,
    trainer: parameter_server.AsyncTrainer,
    path: str | os.PathLike[str],
    append: bool = False,
  ) -> None:
    super().__init__()
    self._trainer = trainer
    self._path = os.fspath(path)
    self._goes_on = append
    self._recorded = 0  # The number of the first report not in the file yet.
    self._steps = -1  # The epoch's latest step, as of the last reading.
    self._read_at = 0.0
    self._pause = _PAUSE_SECONDS  # Half of the journal needs longer to fill.
    self._computed_at = {}  # When each worker had its latest gradient.
    self._travel = {}  # How long its latest push and pull took.

  def on_train_begin(self, logs=None) -> None:
    """Begins the file; earlier pushes are not part of it."""
    del logs
    rows, self._recorded = self._trainer.reports()
    self._half = len(rows) // 2
    self._pause = _PAUSE_SECONDS
    self._computed_at = {}
    self._travel = {}
    is_begun = os.path.exists(self._path) and os.path.getsize(self._path) > 0
    if self._goes_on and is_begun:
      return
    with open(self._path, "wb") as file:
      file.write(b"worker,seconds,rest_seconds\n")

  def on_epoch_begin(self, epoch: int, logs=None) -> None:
    """Counts the epoch's steps and seconds."""
    del epoch, logs
    self._steps = -1
    self._read_at = time.monotonic()

  def on_train_batch_end(self, batch: int, logs=None) -> None:
    """Reads, if half of the journal may be new.

    Args:
      batch: the number of the epoch's latest step that the coordinator knows
        of; the workers may be far ahead of it.
      logs: not read.
    """
    del logs
    if (
      time.monotonic() - self._read_at >= self._pause
      or batch - self._steps >= self._half
    ):
      self._record()
      self._steps = batch

  def on_epoch_end(self, epoch: int, logs=None) -> None:
    """Reads what the epoch has left."""
    del epoch, logs
    self._record()

  def _record(self) -> None:
    """Appends the reports that are new, each once."""
    rows, version = self._trainer.reports()
    new = version - self._recorded
    lost = max(0, new - len(rows))
    if lost:
      logging.warning(
        "%s lacks the delays of %d pushes, which were overwritten before they "
        "could be read; a smaller steps_per_dispatch may help.",
        self._path,
        lost,
      )
      # How long the rests were is not known either.
      self._computed_at = {}
    numbers = np.arange(self._recorded + lost, version)
    reports = rows[numbers % len(rows)]
    # Without those that never came (see `Ledger.skip_partial_round`).
    self._append(journal.Report(*reports[reports.any(axis=1)].T))
    self._recorded = version
    now = time.monotonic()
    if new:
      # As if it always went as fast as it ever did.
      pause = (now - self._read_at) * self._half / new
      self._pause = max(_MIN_PAUSE_SECONDS, min(self._pause, pause))
    self._read_at = now

  def _step(self, row) -> tuple[float, float, float]:
    """Returns worker, delay and the rest before it."""
    report = journal.Report(*row)
    worker, travel = report.worker, report.communication_seconds
    began_at = report.pulled_at - travel
    rest = began_at - self._computed_at.get(worker, began_at)
    if rest < _SHORTEST_REST_SECONDS:
      rest = 0.0
    if travel:
      self._travel[worker] = travel
    elif rest:
      travel = min(rest, self._travel.get(worker, 0.0))
      rest -= travel
    self._computed_at[worker] = report.pulled_at + report.compute_seconds
    delay = report.compute_seconds + travel
    return worker, max(_SHORTEST_SECONDS, delay), rest

  def _append(self, report: journal.Report) -> None:
    lines = [
      f"{int(worker)},{seconds:.9g},{rest:.9g}\n"
      for worker, seconds, rest in map(self._step, zip(*report, strict=True))
    ]
    # Whole lines: an interrupted run leaves a file that can be read. What a
    # crash has left of one cannot be told from a shorter number.
    files.append(
      self._path, "".join(lines).encode(), is_whole=lambda line: False
    )
