"""Lets systems take turns, and prints what they took."""

import contextlib
import importlib.metadata
import os
import platform
import random
import signal
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.systems import contest

ROLES = ("worker", "ps", "coordinator")

# Long enough for every system to have compiled what it compiles.
_WARM_UP_STEPS = 200


def play(
  commands: Mapping[str, Sequence[str]],
  seconds: float,
  repetitions: int,
  granule: int,
) -> dict[str, list[contest.Turn]]:
  """Returns every system's turns, by its name.

  All systems are up at once; in each repetition every one of them trains for
  about the same time, in a random order.

  Args:
    commands: the arguments of each system's program.
    seconds: how long a turn takes, about.
    repetitions: how many turns each of them has.
    granule: turns have a multiple of so many steps.
  """
  shuffled = random.Random(0)
  turns = {name: [] for name in commands}
  # Systems that wait would stay stopped for good.
  for ending in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(ending, lambda number, frame: sys.exit(128 + number))
  with contextlib.ExitStack() as stack:
    systems, steps = {}, {}
    for name, command in commands.items():
      systems[name] = contest.System(list(command), os.environ)
      stack.callback(systems[name].close)
      systems[name].run(_WARM_UP_STEPS)
      speed = systems[name].run(_WARM_UP_STEPS).steps_per_second
      steps[name] = granule * max(1, round(speed * seconds / granule))
    for _ in range(repetitions):
      for name in shuffled.sample(list(systems), len(systems)):
        turns[name].append(systems[name].run(steps[name]))
  return turns


def table(
  turns: Mapping[str, Sequence[contest.Turn]], references: Sequence[str]
) -> str:
  """Returns the figures as a Markdown table.

  Medians, quartiles in brackets; processor time in ms per step. Ratios are
  taken within a repetition, so that a slow phase of the machine touches both
  sides.

  Args:
    turns: what `play` returned.
    references: names of systems whose speed the others' is compared with.
  """
  speeds = {
    name: np.array([turn.steps_per_second for turn in own])
    for name, own in turns.items()
  }
  header = [
    "system",
    "steps/s",
    *(f"/ {reference}" for reference in references),
    *ROLES,
  ]
  lines = [header, ["---", *["---:"] * (len(header) - 1)]]
  for name, own in turns.items():
    line = [name, _summary(speeds[name], 4)]
    line += [_summary(speeds[name] / speeds[r], 3) for r in references]
    for role in ROLES:
      used = np.median([turn.milliseconds_per_step(role) for turn in own])
      line.append(f"{used:.2f}" if used else "")
    lines.append(line)
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _summary(values: np.ndarray, digits: int) -> str:
  low, median, high = (
    f"{value:#.{digits}g}".rstrip(".")
    for value in np.quantile(values, [0.25, 0.5, 0.75])
  )
  return f"{median} [{low}, {high}]"


def environment(packages: Sequence[str]) -> str:
  """Returns the machine and the versions of the packages that are there."""
  versions = []
  for package in packages:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions.append(f"{package} {importlib.metadata.version(package)}")
  return (
    f"{os.cpu_count()} cores, {platform.machine()}, Python "
    f"{platform.python_version()}, {', '.join(versions)}"
  )
