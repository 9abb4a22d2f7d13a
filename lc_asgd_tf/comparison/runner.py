"""Runs cells in several processes, and hands over each result at once."""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence

from lc_asgd_tf import errors
from lc_asgd_tf.comparison import cell as cell_lib
from lc_asgd_tf.comparison import grid

# How often to look whether a process is still there.
_SECONDS_BETWEEN_LOOKS = 1.0

Results = Iterator[tuple[cell_lib.Cell, dict[str, object]]]
RunCells = Callable[[Sequence[cell_lib.Cell]], Results]
"""Runs cells that share a program, one after the other."""

# One thread for a step, and one that feeds it: several runs side by side use
# the cores better than one that is spread over them.
_ENVIRONMENT = {
  "TF_NUM_INTRAOP_THREADS": "1",
  "TF_NUM_INTEROP_THREADS": "2",
  "TF_CPP_MIN_LOG_LEVEL": "3",
  "OMP_NUM_THREADS": "1",
  # TensorFlow's default takes all memory of a GPU at once.
  "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}


def run(
  cells: Sequence[cell_lib.Cell], run_cells: RunCells, processes: int
) -> Results:
  """Yields each cell with its result, in the order in which they finish.

  Cells that share a compiled program run in one process, one after the other.

  Args:
    cells: what to run.
    run_cells: can be pickled; it is called in new processes, which run nothing
      else and import TensorFlow with one thread each.
    processes: how many.

  Raises:
    UserError: what `run_cells` raised for the user, or that a process died.
    RuntimeError: any other error of `run_cells`, with its traceback.
  """
  groups = sorted(grid.programs(cells), key=len, reverse=True)
  context = multiprocessing.get_context("spawn")
  tasks, results = context.Queue(), context.Queue()
  for group in groups:
    tasks.put(group)
  count = min(processes, len(groups))
  for _ in range(count):
    tasks.put(None)
  with contextlib.ExitStack() as stack:
    with _environment(_ENVIRONMENT):
      workers = [
        context.Process(
          target=_work, args=(run_cells, tasks, results), daemon=True
        )
        for _ in range(count)
      ]
      for worker in workers:
        stack.callback(_end, worker)
        worker.start()
    for _ in range(len(cells)):
      cell, result = _next(results, workers)
      if cell is None:
        raise result
      yield cell, result


def _work(run_cells, tasks, results) -> None:
  """Runs groups of cells until there are none left."""
  # Ctrl-C is the parent's to deal with.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  threading.Thread(target=_end_with_parent, daemon=True).start()
  try:
    while (group := tasks.get()) is not None:
      for cell, result in run_cells(group):
        results.put((cell, result))
  except errors.UserError as error:
    results.put((None, errors.UserError(str(error))))
  except (Exception, SystemExit):  # A module of the user's may exit.
    results.put((None, RuntimeError(traceback.format_exc())))


def _end_with_parent() -> None:
  """Ends this process when its parent is gone, killed perhaps."""
  multiprocessing.parent_process().join()
  os._exit(1)


def _next(results, workers):
  """Returns the next result; raises if it can never come."""
  while True:
    # Before the look, after which what they had put there is not to come.
    codes = [worker.exitcode for worker in workers]
    try:
      return results.get(timeout=_SECONDS_BETWEEN_LOOKS)
    except queue.Empty:
      # One that is done ends with 0, but then others are not.
      if any(codes) or None not in codes:
        code = next(filter(None, codes), 0)
        raise errors.UserError(
          f"a process of the comparison died (exit code {code}), of too little "
          "memory perhaps: run it again to go on where it was, with smaller "
          "--processes."
        ) from None


def _end(worker) -> None:
  worker.terminate()
  worker.join()


@contextlib.contextmanager
def _environment(variables):
  """Sets environment variables for the processes that are started inside."""
  old = {name: os.environ.get(name) for name in variables}
  os.environ.update(variables)
  try:
    yield
  finally:
    for name, value in old.items():
      if value is None:
        del os.environ[name]
      else:
        os.environ[name] = value
