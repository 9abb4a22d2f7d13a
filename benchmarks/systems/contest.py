"""How the benchmark and the systems in it talk to each other.

A system is a program that lives as long as the benchmark does, and is stopped
(SIGSTOP) unless it has its turn: it reads a number of steps from its standard
input, trains that many, and writes what they took as one line of JSON. All
systems can so be up and warm at once, and take turns, without threads that wake
up beside another's turn.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Mapping

from benchmarks import networks

_MARK = "contest: "
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Turn:
  """What some steps took.

  Attributes:
    steps: of all workers together.
    seconds: wall time.
    processor_seconds: processor time by role: "worker", "ps", "coordinator",
      each the sum over its processes; empty where the system does not say.
    memory_growth: by how many bytes the resident memory of each role has grown
      since the cluster was started, the sum over its processes.
  """

  steps: int
  seconds: float
  processor_seconds: Mapping[str, float]
  memory_growth: Mapping[str, int] = dataclasses.field(default_factory=dict)

  @property
  def steps_per_second(self) -> float:
    """The throughput of the whole cluster."""
    return self.steps / self.seconds

  def milliseconds_per_step(self, role: str) -> float:
    """Processor time of a role per step."""
    return 1000 * self.processor_seconds.get(role, 0.0) / self.steps


class System:
  """A running system, as the benchmark sees it.

  Args:
    command: the arguments of its program.
    environ: its environment.
  """

  def __init__(self, command: list[str], environ: Mapping[str, str]) -> None:
    # A file, so that a system that writes much is never held up.
    self._errors = tempfile.TemporaryFile("w+")
    self._process = subprocess.Popen(
      [sys.executable, "-m", *command],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      text=True,
      env=dict(environ),
    )
    self._read()
    self._signal(signal.SIGSTOP)

  def run(self, steps: int) -> Turn:
    """Lets the system train for at least some steps.

    A quarter as many before do not count: what has been stopped for a while
    finds neither caches nor, on some machines, its memory as they were.
    """
    self._signal(signal.SIGCONT)
    self._train(max(1, steps // 4))
    turn = self._train(steps)
    self._signal(signal.SIGSTOP)
    return turn

  def _train(self, steps):
    self._process.stdin.write(f"{steps}\n")
    self._process.stdin.flush()
    return Turn(**self._read())

  def close(self) -> None:
    """Ends it."""
    self._signal(signal.SIGCONT)
    self._process.stdin.close()
    try:
      self._process.wait(20)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()

  def _signal(self, number):
    """Signals its processes, whatever their groups; on Linux."""
    parents = _parents()
    for pid in parents:
      ancestor = pid
      while ancestor in parents and ancestor != self._process.pid:
        ancestor = parents[ancestor]
      if ancestor == self._process.pid:
        with contextlib.suppress(ProcessLookupError):
          os.kill(pid, number)

  def _read(self):
    for line in self._process.stdout:
      if line.startswith(_MARK):
        return json.loads(line.removeprefix(_MARK))
    self._process.wait()
    self._errors.seek(0)
    raise RuntimeError(
      f"{self._process.args[2]} ended with status {self._process.returncode}: "
      f"{self._errors.read()[-4000:]}"
    )


def arguments() -> argparse.Namespace:
  """Reads what every system is told: network, workers, batch, and so on."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--network", choices=networks.NAMES, required=True)
  parser.add_argument("--workers", type=int, required=True)
  parser.add_argument("--batch", type=int, required=True)
  parser.add_argument("--rule", default="")
  parser.add_argument("--pull_dtype", default="float32")
  parser.add_argument("--stock", action="store_true")
  return parser.parse_args()


def take_turns(run: Callable[[int], Turn]) -> None:
  """Is a system: trains whenever it is told to, until nobody does.

  Args:
    run: trains for about that many steps; returns what they took.
  """
  _say({})
  for line in sys.stdin:
    _say(dataclasses.asdict(run(int(line))))


@contextlib.contextmanager
def local_cluster(workers: int) -> Iterator:
  """Gives a strategy on a cluster of this package, with one ps, and a watch."""
  from lc_asgd_tf import cluster

  environ = dict(os.environ)
  os.environ.update(cluster.coordinator_environment(environ))
  with (
    tempfile.TemporaryDirectory() as logs,
    cluster.LocalCluster(workers, 1, logs, environ=environ) as local,
  ):
    strategy = cluster.connect(local.specification)
    yield strategy, Stopwatch(local.pids | {"coordinator": os.getpid()})
    # Without TensorFlow's farewell to servers that are gone.
    sys.stdout.flush()
    local.stop()
    os._exit(0)


@contextlib.contextmanager
def stock_cluster(workers: int) -> Iterator:
  """The same with TensorFlow's own server and strategy, as users have them.

  The numbers of threads, the workers' processors and everything else in the
  environment are those of `local_cluster`.
  """
  from lc_asgd_tf import cluster

  environ = dict(os.environ)
  os.environ.update(cluster.coordinator_environment(environ))
  import tensorflow as tf

  addresses = [f"127.0.0.1:{port}" for port in cluster.free_ports(workers + 2)]
  specification = cluster.ClusterSpecification(
    chief=addresses[0], ps=(addresses[1],), workers=tuple(addresses[2:])
  )
  machine = cluster.Machine.detect(environ)
  with contextlib.ExitStack() as stack:
    pids = {"coordinator": os.getpid()}
    tasks = []
    for task in [("ps", 0), *(("worker", i) for i in range(workers))]:
      settings = cluster.task_environment(
        machine, *task, num_workers=workers, num_ps=1, environ=environ
      )
      process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.systems.stock_server"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environ | settings | {"TF_CONFIG": specification.tf_config(*task)},
      )
      stack.callback(process.kill)
      if task[0] == "worker":
        cluster.bind_worker(process.pid, task[1], workers)
      tasks.append(process)
      pids[f"{task[0]} {task[1]}"] = process.pid
    for process in tasks:
      if not process.stdout.readline():
        raise RuntimeError("A task of TensorFlow's own has ended.")
    strategy = tf.distribute.ParameterServerStrategy(
      specification.cluster_resolver()
    )
    yield strategy, Stopwatch(pids)
    sys.stdout.flush()
    stack.close()
    os._exit(0)


def cluster_of(options: argparse.Namespace):
  """Returns the cluster that a system is told to run on."""
  make = stock_cluster if options.stock else local_cluster
  return make(options.workers)


class Stopwatch:
  """Takes wall and processor time.

  Args:
    pids: the processes, by names that begin with their role.
  """

  def __init__(self, pids: Mapping[str, int]) -> None:
    self._pids = pids
    self._memory = _resident_bytes(pids)

  def start(self) -> None:
    """Begins."""
    self._processor = _processor_seconds(self._pids)
    self._began = time.perf_counter()

  def stop(self) -> None:
    """Ends; the last one counts."""
    self._seconds = time.perf_counter() - self._began
    now = _processor_seconds(self._pids)
    self._used = {role: now[role] - self._processor[role] for role in now}

  def turn(self, steps: int) -> Turn:
    """Returns what was taken."""
    memory = _resident_bytes(self._pids)
    growth = {role: memory[role] - self._memory[role] for role in memory}
    return Turn(steps, self._seconds, self._used, growth)

  def callback(self, keras: types.ModuleType):
    """Returns a callback that takes the time of an epoch, and no set-up's."""
    return keras.callbacks.LambdaCallback(
      on_epoch_begin=lambda epoch, logs: self.start(),
      on_epoch_end=lambda epoch, logs: self.stop(),
    )


def _say(value) -> None:
  print(f"\n{_MARK}{json.dumps(value)}", flush=True)


def _processor_seconds(pids: Mapping[str, int]) -> dict[str, float]:
  """Returns user and system time so far, by role; empty off Linux."""

  def seconds(pid):
    status = _status(pid)
    return (int(status[11]) + int(status[12])) / _TICKS

  return _by_role(pids, seconds)


def _parents() -> dict[int, int]:
  """Returns the parent of each process there is; empty off Linux."""
  parents = {}
  with contextlib.suppress(FileNotFoundError):
    for pid in filter(str.isdecimal, os.listdir("/proc")):
      # It may have ended.
      with contextlib.suppress(OSError):
        parents[int(pid)] = int(_status(pid)[1])
  return parents


def _status(pid: int | str) -> list[str]:
  """Returns what Linux says of a process, from its state on."""
  with open(f"/proc/{pid}/stat") as stat:
    return stat.read().rpartition(")")[2].split()


def _resident_bytes(pids: Mapping[str, int]) -> dict[str, int]:
  """Returns resident memory, by role; empty off Linux."""

  def resident(pid):
    with open(f"/proc/{pid}/statm") as statm:
      return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

  return _by_role(pids, resident)


def _by_role(pids, measure):
  totals = {}
  for name, pid in pids.items():
    role = name.split()[0]
    try:
      totals[role] = totals.get(role, 0) + measure(pid)
    except OSError:
      return {}
  return totals
