"""Which processors each worker of a local cluster keeps to.

What a worker finds in the cache of its core it does not find in another's, and
two that meet on one core leave another one idle.
"""

import contextlib
import os
import pathlib
from collections.abc import Sequence

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology"
# From what the fewest share to what the most do.
_LEVELS = ("physical_package_id", "die_id", "core_id")


def usable() -> tuple[int, ...]:
  """Returns the numbers of the processors that this process may run on.

  Those of one core, and then of one die and of one socket, are beside each
  other.

  Returns:
    As `os.sched_getaffinity` has them; empty where the system does not say,
    as macOS.
  """
  if not hasattr(os, "sched_getaffinity"):
    return ()
  return tuple(sorted(os.sched_getaffinity(0), key=_place))


def share(
  processors: Sequence[int], index: int, num_workers: int
) -> tuple[int, ...]:
  """Returns one worker's part of the processors.

  Args:
    processors: as `usable` returns them.
    index: which worker, from 0.
    num_workers: how many of them there are.

  Returns:
    Parts of different workers have none in common, differ in size by at most
    one, and make up the whole. Where there are fewer processors than workers,
    all of them.
  """
  count = len(processors)
  if count < num_workers:
    return tuple(processors)
  first, end = (count * i // num_workers for i in (index, index + 1))
  return tuple(processors[first:end])


def bind_worker(pid: int, index: int, num_workers: int) -> None:
  """Makes a worker keep to its share of the processors, if it has one.

  Args:
    pid: of its process. Threads that it has already, but for the first, stay
      where they are.
    index: which worker, from 0.
    num_workers: how many of them there are.
  """
  own = share(usable(), index, num_workers)
  if own:
    # It may be gone, or have been given others in the meantime.
    with contextlib.suppress(OSError):
      os.sched_setaffinity(pid, own)


def _place(processor: int) -> tuple[int, ...]:
  """Returns what to sort a processor by."""
  folder = pathlib.Path(_TOPOLOGY.format(processor))
  return (*(_number(folder / level) for level in _LEVELS), processor)


def _number(path: pathlib.Path) -> int:
  try:
    return int(path.read_text())
  except (OSError, ValueError):
    return 0  # Not every system, or container, says.
