"""Steps per second of whole clusters, side by side.

    python -m benchmarks.throughput

trains the same networks on the same data with every system that is installed:
this package, tf_keras's `fit` and a loop with Keras's own SGD on the same kind
of cluster, and a parameter server of PyTorch. The limit is the same network in
as many processes that share nothing. All systems are up at once and take turns;
in each repetition every one of them trains for about the same time, in a random
order, and ratios are taken within a repetition, so that a slow phase of the
machine touches all sides.

tf_keras and the loop run on TensorFlow's own servers, with as many threads;
`tf_keras_tuned` runs on the servers of this package, whose idle threads sleep
and which keep their memory (see docs/performance.md).

Beside it stands the processor time per step of workers, ps and coordinator,
which says where a step's time goes.
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import random
from collections.abc import Mapping, Sequence

import numpy as np
from absl import app, flags

from benchmarks import networks
from benchmarks.systems import contest


@dataclasses.dataclass(frozen=True)
class Contestant:
  """One row of the table.

  Attributes:
    program: a module of `benchmarks.systems`.
    rule: for this package, a class of `lc_asgd_tf`.
    stock: whether on TensorFlow's own servers, rather than on this package's.
    needs: the package that must be installed.
  """

  program: str
  rule: str = ""
  stock: bool = False
  needs: str = "lc_asgd_tf"


_LIMIT = "limit"
_CONTESTANTS: Mapping[str, Contestant] = {
  _LIMIT: Contestant("compute_limit"),
  "lc_asgd": Contestant("async_trainer", "LCASGD"),
  "asgd": Contestant("async_trainer", "ASGD"),
  "tf_keras": Contestant("tf_keras_fit", stock=True, needs="tf_keras"),
  "tf_keras_tuned": Contestant("tf_keras_fit", needs="tf_keras"),
  "keras_loop": Contestant("keras_loop", stock=True),
  "torch_rpc": Contestant("torch_rpc", needs="torch"),
}
_ROLES = ("worker", "ps", "coordinator")
# Long enough for every system to have compiled what it compiles.
_WARM_UP_STEPS = 200

_NETWORKS = flags.DEFINE_multi_enum(
  "network", list(networks.NAMES), networks.NAMES, "What to train."
)
_SYSTEMS = flags.DEFINE_multi_enum(
  "system", list(_CONTESTANTS), list(_CONTESTANTS), "Who takes part."
)
_WORKERS = flags.DEFINE_integer(
  "workers", 2, "Worker processes of each system.", lower_bound=1
)
_BATCH = flags.DEFINE_integer(
  "batch", 32, "Examples per step.", lower_bound=1, upper_bound=1000
)
_SECONDS = flags.DEFINE_float(
  "seconds", 8.0, "About how long one turn takes.", lower_bound=0.1
)
_REPETITIONS = flags.DEFINE_integer(
  "repetitions", 5, "How often every system has its turn.", lower_bound=1
)


def main(argv: Sequence[str]) -> None:
  """Measures and prints."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument: {argv[1]!r}")
  names = []
  for name in dict.fromkeys(_SYSTEMS.value):
    needs = _CONTESTANTS[name].needs
    if importlib.util.find_spec(needs):
      names.append(name)
    else:
      print(f"{name} is left out: the package {needs} is not installed.")
  print(_environment())
  for network in dict.fromkeys(_NETWORKS.value):
    print(
      f"\n{network}, batches of {_BATCH.value}, {_WORKERS.value} workers; "
      f"medians of {_REPETITIONS.value} turns of about {_SECONDS.value:g} s, "
      "quartiles in brackets; processor time in ms per step.\n"
    )
    print(_table(_measure(names, network)), flush=True)


def _measure(
  names: Sequence[str], network: str
) -> dict[str, list[contest.Turn]]:
  """Returns every system's turns."""
  shuffled = random.Random(0)
  turns = {name: [] for name in names}
  with contextlib.ExitStack() as stack:
    systems, steps = {}, {}
    for name in names:
      systems[name] = _start(name, network)
      stack.callback(systems[name].close)
      systems[name].run(_WARM_UP_STEPS)
      speed = systems[name].run(_WARM_UP_STEPS).steps_per_second
      # In whole executions of all workers.
      granule = 20 * _WORKERS.value
      steps[name] = granule * max(1, round(speed * _SECONDS.value / granule))
    for _ in range(_REPETITIONS.value):
      for name in shuffled.sample(names, len(names)):
        turns[name].append(systems[name].run(steps[name]))
  return turns


def _start(name: str, network: str) -> contest.System:
  contestant = _CONTESTANTS[name]
  command = [
    f"benchmarks.systems.{contestant.program}",
    f"--network={network}",
    f"--workers={_WORKERS.value}",
    f"--batch={_BATCH.value}",
  ]
  if contestant.rule:
    command.append(f"--rule={contestant.rule}")
  if contestant.stock:
    command.append("--stock")
  return contest.System(command, os.environ)


def _table(turns: Mapping[str, Sequence[contest.Turn]]) -> str:
  """Returns the figures as a Markdown table."""
  speeds = {
    name: np.array([turn.steps_per_second for turn in own])
    for name, own in turns.items()
  }
  references = [name for name in (_LIMIT, "asgd", "tf_keras") if name in speeds]
  header = [
    "system",
    "steps/s",
    *(f"/ {reference}" for reference in references),
    *_ROLES,
  ]
  lines = [header, ["---", *["---:"] * (len(header) - 1)]]
  for name, own in turns.items():
    line = [name, _summary(speeds[name], 4)]
    line += [_summary(speeds[name] / speeds[r], 3) for r in references]
    for role in _ROLES:
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


def _environment() -> str:
  versions = []
  for package in ("tensorflow", "keras", "tf_keras", "torch"):
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions.append(f"{package} {importlib.metadata.version(package)}")
  return (
    f"{os.cpu_count()} cores, {platform.machine()}, Python "
    f"{platform.python_version()}, {', '.join(versions)}"
  )


if __name__ == "__main__":
  app.run(main)
