"""Reports of simulated workers, for the tests of predictors."""

import heapq
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from lc_asgd_tf.predictors import journal


def simulate(
  seconds: Sequence[float],
  pushes: int,
  loss: Callable[[int, np.random.Generator], float] = lambda v, rng: 1.0,
  seed: int = 0,
) -> np.ndarray:
  """Returns the journal of an asynchronous run, one row per push.

  Args:
    seconds: how long a step takes each worker, on average; real steps take
      between half and one and a half times as long.
    pushes: how many.
    loss: of the version that a worker pulled.
    seed: of durations and losses.
  """
  rng = np.random.default_rng(seed)

  def duration(worker):
    return seconds[worker] * rng.uniform(0.5, 1.5)

  # (when it pushes, who, how long it takes, what it pulled).
  running = []
  for worker in range(len(seconds)):
    took = duration(worker)
    running.append((took, worker, took, 0))
  heapq.heapify(running)
  rows = []
  for number in range(pushes):
    now, worker, took, pulled = heapq.heappop(running)
    report = journal.Report(
      version=pulled,
      loss=loss(pulled, rng),
      worker=worker,
      staleness=number - pulled,
      compute_seconds=took,
      communication_seconds=0.01,
      pulled_at=now - took,
    )
    rows.append(report)
    took = duration(worker)
    heapq.heappush(running, (now + took, worker, took, number + 1))
  return np.array(rows, "float64")


def ring(rows: np.ndarray, capacity: int = 1024) -> tf.Tensor:
  """Returns the ring that holds the last rows."""
  slots = np.zeros([capacity, journal.FIELDS])
  for number, row in enumerate(rows):
    slots[number % capacity] = row
  return tf.constant(slots)


def number(value: int) -> tf.Tensor:
  """Returns the number of a report."""
  return tf.constant(value, tf.int64)


def edited(rows: np.ndarray, numbers, **fields) -> np.ndarray:
  """Returns the rows, some of them with other values."""
  rows = rows.copy()
  for name, value in fields.items():
    rows[numbers, journal.Report._fields.index(name)] = value
  return rows
