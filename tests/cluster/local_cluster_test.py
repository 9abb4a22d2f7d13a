import json
import os
import pathlib
import queue
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf.cluster import (
  LocalCluster,
  TaskFailure,
  interrupt_main_thread,
  processors,
)
from lc_asgd_tf.errors import UserError
from tests.cluster import processes

# A coordinator, without TensorFlow: prints its tasks' pids, first when they
# have been started, then when they serve.
COORDINATOR = f"""
{processes.WITHOUT_KERAS}
import sys, threading, time
from lc_asgd_tf.cluster import LocalCluster

cluster = LocalCluster(1, 1, sys.argv[1])
def report():
  while len(cluster.pids) < 2:
    time.sleep(0.01)
  print(*cluster.pids.values(), flush=True)
threading.Thread(target=report, daemon=True).start()
with cluster:
  print("serving", flush=True)
  time.sleep(600)
"""

# What a coordinator does with a cluster, without a strategy.
RUN_ON_EVERY_TASK = """
import json, os, sys
sys.modules["keras"] = None
import tensorflow as tf
cluster = json.loads(sys.argv[1])
tf.config.experimental_connect_to_cluster(
  tf.train.ClusterSpec(cluster), job_name="chief", protocol="grpc"
)
devices = []
for job in ("worker", "ps"):
  for index in range(len(cluster[job])):
    with tf.device(f"/job:{job}/replica:0/task:{index}/device:CPU:0"):
      devices.append((tf.ones([3]) + 1).device)
with tf.device("/job:ps/task:0/device:CPU:0"):
  count = tf.Variable(0)
@tf.function
def step():  # Hangs on a worker that has one inter-op thread.
  count.assign_add(1)
for index in range(len(cluster["worker"])):
  with tf.device(f"/job:worker/task:{index}"):
    step()
print(json.dumps({"devices": devices, "count": int(count.numpy())}))
sys.stdout.flush()
os._exit(0)  # Its objects on the cluster would complain.
"""

# As in a notebook, whose process has not been made for a cluster.
_CONNECTED = """
import os
from lc_asgd_tf import cluster
strategy = cluster.connect(cluster.from_environment(os.environ))
import tensorflow as tf
with tf.device("/job:ps/task:0/device:CPU:0"):
  print(int(tf.constant(20) + 1), flush=True)
os._exit(0)
"""


def _folder(test: absltest.TestCase) -> str:
  return test.enter_context(tempfile.TemporaryDirectory())


class RunningClusterTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = tempfile.TemporaryDirectory()
    cls.addClassCleanup(folder.cleanup)
    cls.log_dir = pathlib.Path(folder.name, "made", "as needed")
    # The proxy is nobody: calls within the cluster must not go there.
    environ = {**os.environ, "http_proxy": "http://127.0.0.1:9"}
    cls.cluster = LocalCluster(2, 1, cls.log_dir, environ=environ)
    cls.addClassCleanup(cls.cluster.stop)
    cls.cluster.start()

  def test_every_port_answers(self):
    specification = self.cluster.specification
    for address in (*specification.workers, *specification.ps):
      host, port = address.rsplit(":", 1)
      socket.create_connection((host, int(port)), timeout=5).close()

  def test_specification_is_the_chiefs(self):
    specification = self.cluster.specification
    self.assertEqual(specification.num_workers, 2)
    self.assertEqual(specification.num_ps, 1)
    self.assertEqual(specification.task_type, "chief")
    self.assertEqual(specification.address, specification.chief)

  def test_a_coordinator_takes_no_proxy_to_this_machine(self):
    config = self.cluster.specification.tf_config("chief", 0)
    proxy = {"http_proxy": "http://127.0.0.1:9", "TF_CONFIG": config}
    ended = subprocess.run(
      [sys.executable, "-c", _CONNECTED],
      env={**os.environ, **proxy},
      capture_output=True,
      text=True,
      timeout=120,
    )
    self.assertEqual(ended.stdout, "21\n", ended.stderr)

  def test_one_log_per_task(self):
    logs = {path.name: path.read_text() for path in self.log_dir.iterdir()}
    self.assertSameElements(logs, ["ps_0.log", "worker_0.log", "worker_1.log"])
    for name, text in logs.items():
      task = name.removesuffix(".log").replace("_", " ")
      self.assertIn(f"{task} serves at grpc://127.0.0.1:", text)

  def test_tasks_are_out_of_reach_of_the_terminal(self):
    self.assertSameElements(self.cluster.pids, ["worker 0", "worker 1", "ps 0"])
    for pid in self.cluster.pids.values():
      self.assertEqual(os.getsid(pid), pid)

  @unittest.skipUnless(
    hasattr(os, "sched_getaffinity"), "this system does not bind processes"
  )
  def test_every_worker_has_processors_of_its_own(self):
    usable = os.sched_getaffinity(0)
    if len(usable) < 2:
      self.skipTest("there is one processor for two workers")
    kept = {
      name: processes.processors(pid) for name, pid in self.cluster.pids.items()
    }
    self.assertEqual(kept["ps 0"], usable)
    self.assertEmpty(kept["worker 0"] & kept["worker 1"])
    self.assertEqual(kept["worker 0"] | kept["worker 1"], usable)

  def test_no_task_has_failed(self):
    self.cluster.check()

  def test_starts_only_once(self):
    with self.assertRaisesRegex(RuntimeError, "only once"):
      self.cluster.start()
    self.assertEmpty(
      [p for p in self.cluster.pids.values() if not processes.is_alive(p)]
    )

  def test_runs_operations_on_every_task(self):
    cluster = json.dumps(self.cluster.specification.as_dict())
    output = subprocess.run(
      [sys.executable, "-c", RUN_ON_EVERY_TASK, cluster],
      capture_output=True,
      check=True,
      timeout=60,
    ).stdout
    result = json.loads(output)
    self.assertEqual(
      result["devices"],
      [
        f"/job:{task}/device:CPU:0"
        for task in (
          "worker/replica:0/task:0",
          "worker/replica:0/task:1",
          "ps/replica:0/task:0",
        )
      ],
    )
    self.assertEqual(result["count"], 2)


class StoppingClusterTest(absltest.TestCase):
  def test_tasks_end_when_told(self):
    with LocalCluster(1, 1, _folder(self)) as cluster:
      # At once: they must not sleep through a signal that comes too early.
      begin = time.monotonic()
      cluster.stop(grace=30)
      self.assertLess(time.monotonic() - begin, 10)


class UsersFolderTest(absltest.TestCase):
  def test_modules_with_names_of_ours(self):
    folder = pathlib.Path(_folder(self))
    for name in ("trainers", "flags", "local", "ports", "resources", "task"):
      (folder / f"{name}.py").write_text(f"raise ImportError({name!r})\n")
    with subprocess.Popen(
      [sys.executable, "-c", COORDINATOR, folder / "logs"],
      stdout=subprocess.PIPE,
      cwd=folder,
      env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as coordinator:
      try:
        self.assertLen(coordinator.stdout.readline().split(), 2)
        self.assertEqual(coordinator.stdout.readline(), b"serving\n")
      finally:
        coordinator.kill()


class FailingClusterTest(parameterized.TestCase):
  def test_death_of_a_task(self):
    failures = queue.Queue()
    cluster = LocalCluster(1, 1, _folder(self), on_failure=failures.put)
    with cluster:
      pids = cluster.pids
      os.kill(pids["worker 0"], signal.SIGKILL)
      failure = failures.get(timeout=2)
      with self.assertRaises(TaskFailure) as caught:
        cluster.check()
      self.assertIs(caught.exception, failure)
      self.assertEqual(failure.task, "worker 0")
      self.assertEqual(failure.status, -signal.SIGKILL)
      self.assertRegex(
        str(failure),
        r"^worker 0 exited with status -9 \(SIGKILL\); its log is .*_0\.log$",
      )
      os.kill(pids["ps 0"], signal.SIGKILL)  # Follows from it: not reported.
    cluster.stop()  # Again.
    self.assertEmpty(processes.survivors(pids.values(), 1))
    self.assertTrue(failures.empty())

  def test_death_of_a_task_ends_the_context(self):
    with self.assertRaisesRegex(TaskFailure, "^worker 0 exited with status -9"):
      with LocalCluster(1, 1, _folder(self)) as cluster:
        os.kill(cluster.pids["worker 0"], signal.SIGKILL)
        threading.Event().wait(30)
    self.assertEmpty(processes.survivors(cluster.pids.values(), 1))

  def test_death_whose_interrupt_is_lost(self):
    with mock.patch.object(signal, "pthread_kill"):
      with self.assertRaises(TaskFailure):
        with LocalCluster(1, 1, _folder(self)) as cluster:
          os.kill(cluster.pids["worker 0"], signal.SIGKILL)
          time.sleep(2)

  @parameterized.parameters(
    (tf.errors.UnavailableError(None, None, "gone"), TaskFailure),
    (RuntimeError("REPLACED BY KeyboardInterrupt"), TaskFailure),
    (ValueError("another mistake"), ValueError),
  )
  def test_error_that_comes_of_a_death(self, error, expected):
    # The error is there before the cluster's call for attention.
    with mock.patch.object(signal, "pthread_kill"):
      with self.assertRaises(expected):
        with LocalCluster(1, 1, _folder(self)) as cluster:
          os.kill(cluster.pids["ps 0"], signal.SIGKILL)
          raise error

  def test_interrupts_and_errors_without_a_death_stay_what_they_are(self):
    for error in (KeyboardInterrupt(), tf.errors.AbortedError(None, None, "")):
      with self.assertRaises(type(error)):
        with LocalCluster(1, 1, _folder(self)):
          raise error

  def test_goes_on_without_a_task_if_told(self):
    with LocalCluster(1, 1, _folder(self), on_failure=None) as cluster:
      os.kill(cluster.pids["worker 0"], signal.SIGKILL)
      with self.assertRaises(TaskFailure):
        cluster.check(wait=30)

  def test_task_that_does_not_serve(self):
    folder = pathlib.Path(_folder(self))
    log = folder / "worker_0.log"
    log.write_text("of a run before\n")
    cluster = LocalCluster(1, 1, folder)
    port = int(cluster.specification.workers[0].rsplit(":", 1)[1])
    with socket.create_server(("127.0.0.1", port)):
      with self.assertRaisesRegex(
        TaskFailure, f"^worker 0 exited with status 2: port {port} is in use"
      ):
        cluster.start()
    self.assertEmpty(processes.survivors(cluster.pids.values(), 1))
    self.assertStartsWith(log.read_text(), "of a run before\n")

  def test_tasks_that_take_too_long(self):
    folder = pathlib.Path(_folder(self))
    for name in ("ps_0.log", "worker_0.log"):
      (folder / name).write_text("of a run before\n")
    cluster = LocalCluster(1, 1, folder, start_timeout=0.1)
    # Nothing of the other run is quoted.
    with self.assertRaisesRegex(
      TaskFailure, r"does not serve after 0\.1 s; its"
    ):
      cluster.start()
    self.assertEmpty(processes.survivors(cluster.pids.values(), 1))


class InterruptMainThreadTest(absltest.TestCase):
  def test_wakes_a_main_thread_that_waits(self):
    threading.Timer(0.2, interrupt_main_thread, [None]).start()
    with self.assertRaises(KeyboardInterrupt):
      threading.Event().wait(30)


class EndOfCoordinatorTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("killed_while_starting", signal.SIGKILL, False),
    ("killed_while_serving", signal.SIGKILL, True),
    ("interrupted_while_starting", signal.SIGINT, False),
    ("interrupted_while_serving", signal.SIGINT, True),
  )
  def test_leaves_no_task_behind(self, number, serving):
    logs = _folder(self)
    with subprocess.Popen(
      [sys.executable, "-c", COORDINATOR, logs],
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
    ) as coordinator:
      pids = [int(pid) for pid in coordinator.stdout.readline().split()]
      self.assertLen(pids, 2)
      if serving:
        self.assertEqual(coordinator.stdout.readline(), b"serving\n")
      coordinator.send_signal(number)
      try:
        coordinator.wait(timeout=10)
      finally:
        # Leaving the block waits for it, however long it takes.
        coordinator.kill()
    self.assertEmpty(processes.survivors(pids, 5))


class BadArgumentsTest(parameterized.TestCase):
  @parameterized.parameters(
    (dict(num_workers=0), "num_workers must be at least 1, not 0"),
    (dict(num_ps=-1), "num_ps must be at least 1, not -1"),
    (dict(base_port=0), "base_port must be in 1..65533"),
    (dict(base_port=65534), "base_port must be in 1..65533"),
  )
  def test_values(self, arguments, message):
    arguments = dict(num_workers=1, num_ps=1, log_dir="unused") | arguments
    with self.assertRaisesRegex(UserError, message):
      LocalCluster(**arguments)

  def test_base_port(self):
    with socket.create_server(("127.0.0.1", 0)) as server:
      taken = server.getsockname()[1]
      with self.assertRaisesRegex(UserError, f"port {taken} is in use"):
        LocalCluster(1, 1, "unused", base_port=taken - 2)
    specification = LocalCluster(1, 1, "unused", taken - 2).specification
    self.assertEqual(specification.chief, f"127.0.0.1:{taken - 2}")
    self.assertEqual(specification.ps, (f"127.0.0.1:{taken - 1}",))
    self.assertEqual(specification.workers, (f"127.0.0.1:{taken}",))

  @parameterized.parameters(
    (dict(), "", True),
    (dict(bind_workers=False), "", False),
    (dict(), "0,1", False),  # It may be near to the other's GPU.
  )
  def test_binds_workers(self, arguments, gpus, bound):
    log_dir = _folder(self)
    environ = os.environ | {"CUDA_VISIBLE_DEVICES": gpus}
    cluster = LocalCluster(2, 1, log_dir, environ=environ, **arguments)
    with (
      mock.patch.object(processors, "bind_worker") as bind,
      mock.patch.object(cluster, "_wait_until_serving"),
    ):
      cluster.start()
    pids = cluster.pids
    cluster.stop()
    expected = [mock.call(pids[f"worker {i}"], i, 2) for i in range(2)]
    self.assertEqual(bind.call_args_list, expected if bound else [])

  def test_more_ports_than_files_may_be_open(self):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
      with self.assertRaisesRegex(UserError, r"ulimit -n"):
        LocalCluster(300, 1, "unused")
    finally:
      resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

  def test_log_dir_is_a_file(self):
    file = self.enter_context(tempfile.NamedTemporaryFile())
    cluster = LocalCluster(1, 1, file.name)
    with self.assertRaisesRegex(UserError, "cannot start the local cluster"):
      cluster.start()
    self.assertEmpty(cluster.pids)


if __name__ == "__main__":
  absltest.main()
