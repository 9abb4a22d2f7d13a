"""Helpers of tests that start processes."""

import contextlib
import os
import pathlib
import time

from lc_asgd_tf.cluster import task

# The first line of a program that imports our modules, but not Keras.
WITHOUT_KERAS = (
  f"import runpy; runpy.run_path({task.__file__!r})['leave_out_keras']()\n"
)


def is_alive(pid: int) -> bool:
  """Whether the process runs; one that only waits to be reaped does not."""
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  try:
    status = pathlib.Path(f"/proc/{pid}/stat").read_text()
  except OSError:
    return not os.path.isdir("/proc/self")  # Gone, or no way to look.
  return status.rpartition(")")[2].split()[0] not in "ZX"


def survivors(pids, seconds: float) -> list[int]:
  """Returns those of `pids` that are still alive after `seconds`."""
  deadline = time.monotonic() + seconds
  alive = list(pids)
  while alive and time.monotonic() < deadline:
    time.sleep(0.02)
    alive = [pid for pid in alive if is_alive(pid)]
  return alive


def processors(pid: int) -> set[int]:
  """Returns where the threads of a process may run, on Linux."""
  found = set()
  for thread in os.listdir(f"/proc/{pid}/task"):
    with contextlib.suppress(ProcessLookupError):  # It has just ended.
      found |= os.sched_getaffinity(int(thread))
  return found
