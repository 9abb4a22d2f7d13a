"""Which ps task holds which variable."""

import heapq
from collections.abc import Sequence


def balance(
  sizes: Sequence[int], num_tasks: int, loads: Sequence[int] = ()
) -> list[list[int]]:
  """Spreads items over tasks so that the largest load is small.

  Largest first, each to the task with the least so far: within 4/3 of the
  best possible (Graham 1969). Variables are never split.

  Args:
    sizes: in any unit.
    num_tasks: how many tasks there are.
    loads: what each has to begin with; nothing by default.

  Returns:
    For each task the indices of its items, ascending.
  """
  loads = [(load, task) for task, load in enumerate(loads or [0] * num_tasks)]
  heapq.heapify(loads)
  placement: list[list[int]] = [[] for _ in range(num_tasks)]
  for item in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
    load, task = heapq.heappop(loads)
    placement[task].append(item)
    heapq.heappush(loads, (load + sizes[item], task))
  return [sorted(items) for items in placement]
