"""A cluster on this machine: one process for each worker and each ps.

Each process holds one end of a socket pair, its *lifeline*, as its standard
input; only the coordinator (the process that made the cluster) holds the other.
Both read, and the end of the stream means that the other side is gone, however
it ended: the system closes a dead process's sockets. A task writes one byte
once it serves. So nobody polls, no task outlives the coordinator, and a death
is noticed at once on either side. `task.py` has the task's half.
"""

from __future__ import annotations

import gc
import os
import pathlib
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping

from lc_asgd_tf.cluster import ports, processors, resources
from lc_asgd_tf.cluster.specification import ClusterSpecification
from lc_asgd_tf.errors import UserError

_HOST = "127.0.0.1"
_SECONDS_TO_NOTICE = 2.0  # That a task has ended, which is no more than read.
_LONGEST_QUOTE = 300  # Characters of a log line that an error repeats.
# The program of a task. Not run as `python task.py`, which would look for
# modules beside that file first.
_TASK = str(pathlib.Path(__file__).with_name("task.py"))
_RUN = (
  "import runpy, sys; del sys.path[0]; "
  "runpy.run_path(sys.argv[1], run_name='__main__')"
)


class TaskFailure(RuntimeError):
  """A task of a local cluster ended, or never served, although it should run.

  Attributes:
    task: The task, such as "worker 2".
    status: Its exit status, negative if a signal ended it (-9 is SIGKILL);
      None if it still ran.
    log_path: The file with all that it printed.
  """

  def __init__(
    self, task: str, status: int | None, log_path: pathlib.Path, message: str
  ):
    super().__init__(f"{task} {message}; its log is {log_path}")
    self.task = task
    self.status = status
    self.log_path = log_path


def hides_interrupt(error: BaseException) -> bool:
  """Returns whether there was an interrupt while TensorFlow raised an error."""
  return "REPLACED BY KeyboardInterrupt" in str(error)


def interrupt_main_thread(failure: TaskFailure) -> None:
  """Raises KeyboardInterrupt in the main thread, even where it waits.

  The context of the `LocalCluster` turns the interrupt into the failure.

  Args:
    failure: Not used; the cluster has it.
  """
  del failure
  # A true signal: `_thread.interrupt_main` only makes a note, which a thread
  # that waits for a lock does not read.
  signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


class LocalCluster:
  """Starts the worker and ps processes, watches over them, and stops them.

      with LocalCluster(num_workers=4, num_ps=1, log_dir="logs") as cluster:
        strategy = connect(cluster.specification)
        ...

  Entering the context returns once every task serves; leaving it, by an
  exception too, stops every process. None outlives this process, not even if
  that is killed. Ctrl-C reaches this process only, which then decides. A task
  that ends by itself ends the context, too, with a `TaskFailure`.

  Let go of the strategy and of whatever it created before leaving, as a
  function does that returns: TensorFlow complains loudly about objects whose
  task is gone.

  Attributes:
    specification: The cluster as its coordinator, the chief, sees it.
  """

  def __init__(
    self,
    num_workers: int,
    num_ps: int,
    log_dir: str | os.PathLike[str],
    base_port: int | None = None,
    *,
    on_failure: Callable[[TaskFailure], None] | None = interrupt_main_thread,
    start_timeout: float | None = None,
    environ: Mapping[str, str] | None = None,
    bind_workers: bool = True,
  ):
    """Chooses the addresses; starts nothing yet.

    Args:
      num_workers: Worker processes, at least 1.
      num_ps: Parameter-server processes, at least 1.
      log_dir: Directory, made if needed, for one log per task: `worker_0.log`;
        one that is there is added to.
      base_port: First of the consecutive ports of the chief, the ps and the
        workers, in this order; any free ports if None.
      on_failure: Called once, in a thread of the cluster's, as soon as a
        serving task ends by itself. Meant to interrupt a coordinator that waits
        for that task, as `interrupt_main_thread` does, for a context in the
        main thread; None to go on without it. With anything but the default,
        call `check`.
      start_timeout: Seconds that all tasks together may take until they
        serve; if None, 60 plus 10 per task.
      environ: What the tasks inherit, by default `os.environ` as it is now.
        Pass the original one if `resources.coordinator_environment` has been
        applied to this process, since that hides the GPUs.
      bind_workers: Whether each worker keeps to processors of its own. So they
        do on Linux, where there are no GPUs, and at least as many processors as
        workers. Turn it off where others need the machine, too.

    Raises:
      UserError: If a number is too small, or a port is in use or there are too
        few of them.
    """
    _check_positive("num_workers", num_workers)
    _check_positive("num_ps", num_ps)
    self._log_dir = pathlib.Path(log_dir)
    self._on_failure = on_failure
    self._environ = dict(os.environ if environ is None else environ)
    if start_timeout is None:
      start_timeout = 60.0 + 10.0 * (num_workers + num_ps)
    self._start_timeout = start_timeout
    self._bind_workers = bind_workers

    addresses = _addresses(1 + num_ps + num_workers, base_port)
    self.specification = ClusterSpecification(
      chief=addresses[0],
      ps=tuple(addresses[1 : 1 + num_ps]),
      workers=tuple(addresses[1 + num_ps :]),
    )

    self._tasks: list[_Task] = []
    self._supervisor = threading.Thread(
      target=self._supervise, name="cluster-supervisor", daemon=True
    )
    self._changed = threading.Condition()  # Guards what follows.
    self._started = False
    self._stopping = False
    self._failure: TaskFailure | None = None

  @property
  def pids(self) -> dict[str, int]:
    """The process id of each started task by its name, such as "worker 2"."""
    return {task.name: task.process.pid for task in self._tasks}

  def __enter__(self) -> LocalCluster:
    self.start()
    return self

  def __exit__(self, kind: object, error: object, frames: object) -> None:
    failure = None
    try:
      failure = self._failure_behind(error)
      if failure:
        # Or what they created would go after the tasks.
        traceback.clear_frames(frames)
      # Before the tasks go, what TensorFlow keeps on them for objects that only
      # refer to each other by now.
      gc.collect()
    finally:
      self.stop()
    if failure:
      raise failure from None

  def _failure_behind(self, error: object) -> TaskFailure | None:
    """Returns the end of a task, if that is what an error came from."""
    if self._on_failure is not interrupt_main_thread:
      return None
    if error is None:
      # An interrupt that comes within a finalizer is lost.
      return self._failure
    import tensorflow as tf  # It is loaded by now.

    if not isinstance(
      error, KeyboardInterrupt | tf.errors.OpError | RuntimeError
    ):
      return None
    wait = 0.0
    # Who has called a task that is gone may know it before the cluster.
    calls_failed = tf.errors.UnavailableError | tf.errors.AbortedError
    if isinstance(
      error, calls_failed | tf.errors.CancelledError
    ) or hides_interrupt(error):
      wait = _SECONDS_TO_NOTICE
    try:
      self.check(wait)
    except TaskFailure as failure:
      return failure
    except KeyboardInterrupt:  # The cluster's own call for attention.
      return self._failure
    return None

  def start(self) -> None:
    """Starts every task and returns once all of them serve.

    Whatever it raises, it leaves no process behind.

    Raises:
      UserError: If the logs cannot be written.
      TaskFailure: If a task ends instead of serving, or takes too long; the
        message quotes the last line of its log.
      RuntimeError: If it has been started before.
    """
    if self._tasks:
      raise RuntimeError("a LocalCluster starts only once")
    if self._on_failure is interrupt_main_thread:
      _hear_interrupts()
    try:
      self._spawn_all()
      self._wait_until_serving()
    except BaseException:  # Ctrl-C as well.
      self.stop()
      raise

  def check(self, wait: float = 0.0) -> None:
    """Raises if a task has ended that nobody stopped.

    Args:
      wait: Seconds to wait for such an end to be noticed. A caller whose call
        to a task has just failed may learn of it a moment before the cluster.

    Raises:
      TaskFailure: If a task has ended; of several, the first.
    """
    with self._changed:
      self._changed.wait_for(lambda: self._failure, wait)
      if self._failure:
        raise self._failure

  def stop(self, grace: float = 5.0) -> None:
    """Ends every process and waits until it is gone; may be called again.

    Args:
      grace: Seconds between SIGTERM and SIGKILL.
    """
    with self._changed:
      self._stopping = True
    deadline = time.monotonic() + grace
    try:
      for task in self._tasks:
        task.process.terminate()
      for task in self._tasks:
        _wait(task.process, deadline - time.monotonic())
    finally:  # Impatient users press Ctrl-C again, here.
      for task in self._tasks:
        task.process.kill()  # Does nothing to a process that is gone.
      for task in self._tasks:
        task.process.wait()
    # It ends by itself, with the last lifeline.
    if threading.current_thread() is not self._supervisor and self._tasks:
      self._supervisor.join()

  def _spawn_all(self) -> None:
    machine = resources.Machine.detect(self._environ)
    try:
      self._log_dir.mkdir(parents=True, exist_ok=True)
      for task_type, index in self._task_names():
        self._tasks.append(self._spawn(machine, task_type, index))
    except OSError as error:
      raise UserError(f"cannot start the local cluster: {error}") from error
    finally:
      if self._tasks:
        self._supervisor.start()

  def _task_names(self) -> list[tuple[str, int]]:
    ps = [("ps", index) for index in range(self.specification.num_ps)]
    workers = [("worker", i) for i in range(self.specification.num_workers)]
    return ps + workers

  def _spawn(
    self, machine: resources.Machine, task_type: str, index: int
  ) -> _Task:
    environment = {
      **self._environ,
      **resources.task_environment(
        machine,
        task_type,
        index,
        num_workers=self.specification.num_workers,
        num_ps=self.specification.num_ps,
        environ=self._environ,
      ),
      "TF_CONFIG": self.specification.tf_config(task_type, index),
      # A task imports what this process imports, installed or not.
      "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
    }
    log_path = self._log_dir.absolute() / f"{task_type}_{index}.log"
    lifeline, end_of_task = socket.socketpair()
    # Python's sockets and files are not inheritable, so that no task holds
    # another's lifeline open.
    # What an earlier cluster wrote there stays: the run may be continued.
    with end_of_task, open(log_path, "ab") as log:
      log_start = log.tell()
      process = subprocess.Popen(
        [sys.executable, "-c", _RUN, _TASK],
        stdin=end_of_task,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        # Out of the terminal's process group, so that Ctrl-C does not end the
        # servers under a coordinator that still uses them.
        start_new_session=True,
      )
    if task_type == "worker" and self._bind_workers and not machine.gpus:
      # Before it has more than one thread.
      num_workers = self.specification.num_workers
      processors.bind_worker(process.pid, index, num_workers)
    return _Task(f"{task_type} {index}", process, lifeline, log_path, log_start)

  def _wait_until_serving(self) -> None:
    with self._changed:
      self._changed.wait_for(
        lambda: self._failure or all(task.serving for task in self._tasks),
        self._start_timeout,
      )
      if self._failure:
        raise self._failure
      for task in self._tasks:
        if not task.serving:
          raise task.failure(
            None, f"does not serve after {self._start_timeout:g} s", quote=True
          )
      self._started = True

  def _supervise(self) -> None:
    """Listens to all lifelines until the last task has ended."""
    with selectors.DefaultSelector() as selector:
      for task in self._tasks:
        selector.register(task.lifeline, selectors.EVENT_READ, task)
      while selector.get_map():
        for key, _ in selector.select():
          task = key.data
          if task.hears():
            self._note_serving(task)
          else:
            selector.unregister(task.lifeline)
            task.lifeline.close()
            self._note_end(task, task.process.wait())

  def _note_serving(self, task: _Task) -> None:
    with self._changed:
      task.serving = True
      self._changed.notify_all()

  def _note_end(self, task: _Task, status: int) -> None:
    with self._changed:
      if self._stopping or self._failure:
        return  # It was told to, or it follows from the first failure.
      self._failure = task.failure(
        status, f"exited with status {_describe(status)}", not self._started
      )
      self._changed.notify_all()
      started = self._started
    if started and self._on_failure:
      self._on_failure(self._failure)


class _Task:
  """One process of the cluster.

  Attributes:
    name: Such as "worker 2".
    process: Leads its own session.
    lifeline: The coordinator's end.
    log_path: Where its output goes.
    log_start: The size of that file before the task began.
    serving: Whether it has said so.
  """

  def __init__(
    self,
    name: str,
    process: subprocess.Popen[bytes],
    lifeline: socket.socket,
    log_path: pathlib.Path,
    log_start: int,
  ):
    self.name = name
    self.process = process
    self.lifeline = lifeline
    self.log_path = log_path
    self.log_start = log_start
    self.serving = False

  def hears(self) -> bool:
    """Blocks for the task's next word; False means that it has ended."""
    try:
      return bool(self.lifeline.recv(1))
    except ConnectionError:
      return False

  def failure(
    self, status: int | None, message: str, quote: bool
  ) -> TaskFailure:
    last_line = _last_line(self.log_path, self.log_start) if quote else ""
    message = f"{message}: {last_line}" if last_line else message
    return TaskFailure(self.name, status, self.log_path, message)


def _hear_interrupts() -> None:
  """Undoes what shells do to the programs in their background."""
  is_main = threading.current_thread() is threading.main_thread()
  if is_main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _check_positive(name: str, value: int) -> None:
  if value < 1:
    raise UserError(f"{name} must be at least 1, not {value}")


def _addresses(count: int, base_port: int | None) -> list[str]:
  if base_port is None:
    return [f"{_HOST}:{port}" for port in ports.free_ports(count)]
  if not 1 <= base_port <= 65536 - count:
    raise UserError(
      f"base_port must be in 1..{65536 - count}, not {base_port}: this cluster "
      f"takes {count} ports from there"
    )
  addresses = [f"{_HOST}:{base_port + offset}" for offset in range(count)]
  for address in addresses:
    ports.check_port_free(address)
  return addresses


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
  try:
    process.wait(max(0.0, seconds))
  except subprocess.TimeoutExpired:
    pass  # The caller kills it.


def _describe(status: int) -> str:
  """Returns an exit status with the signal's name, if a signal ended it."""
  try:
    return f"{status} ({signal.Signals(-status).name})"
  except ValueError:
    return str(status)


def _last_line(path: pathlib.Path, start: int) -> str:
  """Returns the last line of a log that says something, cut if it is long.

  Args:
    path: Of the log.
    start: How many bytes at its beginning are somebody else's.
  """
  lines = path.read_bytes()[start:].decode(errors="replace").split("\n")
  last = next((line.strip() for line in reversed(lines) if line.strip()), "")
  return last[:_LONGEST_QUOTE]
