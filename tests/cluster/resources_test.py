import os
import pathlib
import stat
import tempfile
from importlib import metadata
from unittest import mock

from absl.testing import absltest, parameterized

from lc_asgd_tf.cluster import resources

NO_GPU = "-1"


def _task(machine, task_type, index=0, workers=4, ps=1, environ=None):
  return resources.task_environment(
    machine,
    task_type,
    index,
    num_workers=workers,
    num_ps=ps,
    environ=environ or {},
  )


class ThreadsTest(parameterized.TestCase):
  @parameterized.parameters(
    # cores, workers, ps; intra-op threads of a worker and of a ps
    (1, 4, 1, 1, 1),
    (2, 2, 1, 1, 1),
    (8, 1, 1, 8, 4),
    (8, 3, 2, 2, 1),
    (64, 4, 4, 16, 8),
  )
  def test_shares(self, cores, workers, ps, of_worker, of_ps):
    machine = resources.Machine(cores)
    for task_type, threads in (("worker", of_worker), ("ps", of_ps)):
      environment = _task(machine, task_type, workers=workers, ps=ps)
      self.assertEqual(environment["TF_NUM_INTRAOP_THREADS"], str(threads))
      self.assertEqual(environment["OMP_NUM_THREADS"], str(threads))

  @parameterized.parameters("worker", "ps")
  def test_never_one_inter_op_thread(self, task_type):
    # TensorFlow's workers hang with one.
    for environ in ({}, {"TF_NUM_INTEROP_THREADS": "1"}):
      environment = _task(
        resources.Machine(1), task_type, workers=1, environ=environ
      )
      self.assertGreaterEqual(int(environment["TF_NUM_INTEROP_THREADS"]), 2)
    common = resources.common_environment({"TF_NUM_INTEROP_THREADS": "1"})
    self.assertGreaterEqual(int(common["TF_NUM_INTEROP_THREADS"]), 2)

  @parameterized.parameters(
    ("TF_NUM_INTRAOP_THREADS", "3"),
    ("TF_NUM_INTEROP_THREADS", "7"),
    ("OMP_NUM_THREADS", "5"),
    ("TF_CPP_MIN_LOG_LEVEL", "0"),
    ("GRPC_FAIL_FAST", "true"),
  )
  def test_the_users_setting_wins(self, name, value):
    environ = {name: value}
    machine = resources.Machine(8)
    self.assertNotIn(name, _task(machine, "worker", environ=environ))
    self.assertNotIn(name, _task(machine, "ps", environ=environ))
    self.assertNotIn(name, resources.coordinator_environment(environ))

  @parameterized.parameters("", "--xla_dump_to=/tmp/xla")
  @mock.patch.object(metadata, "version", lambda name: "2.21.3")
  def test_flags_for_what_ps_tasks_compile(self, flags):
    environ = {"XLA_FLAGS": flags}
    machine = resources.Machine(8)
    self.assertEqual(
      _task(machine, "ps", environ=environ)["XLA_FLAGS"].split(),
      [
        "--xla_cpu_enable_concurrency_optimized_scheduler=false",
        "--xla_cpu_enable_fast_math=true",
        *flags.split(),
      ],
    )
    self.assertNotIn("XLA_FLAGS", _task(machine, "worker", environ=environ))
    # Nor twice, where the task adds to what its parent set.
    environ = _task(machine, "ps", environ=environ)
    self.assertNotIn("XLA_FLAGS", resources.common_environment(environ, "ps"))

  @mock.patch.object(metadata, "version", lambda name: "2.21.3")
  def test_the_users_setting_of_a_flag_wins(self):
    environ = {"XLA_FLAGS": "--xla_cpu_enable_fast_math=false"}
    self.assertEqual(
      _task(resources.Machine(8), "ps", environ=environ)["XLA_FLAGS"].split(),
      [
        "--xla_cpu_enable_concurrency_optimized_scheduler=false",
        "--xla_cpu_enable_fast_math=false",
      ],
    )

  def test_no_flag_that_another_tensorflow_may_not_know(self):
    machine = resources.Machine(8)
    with mock.patch.object(metadata, "version", return_value="2.30.0"):
      self.assertNotIn("XLA_FLAGS", _task(machine, "ps"))

  def test_a_proxy_is_no_matter_of_a_cluster_of_the_users(self):
    environ = {"no_grpc_proxy": "host1,host2"}
    local = resources.coordinator_environment(environ)
    self.assertIn("127.0.0.1", local["no_grpc_proxy"])
    other = resources.coordinator_environment(environ, local=False)
    self.assertNotIn("no_grpc_proxy", other)

  def test_machine_counts_the_cores_it_may_use(self):
    cores = resources.Machine.detect({"CUDA_VISIBLE_DEVICES": ""}).cores
    self.assertBetween(cores, 1, os.cpu_count())


class GpusTest(parameterized.TestCase):
  @parameterized.parameters(
    (("0",), 3, ["0", "0", "0"]),
    (("0", "2"), 3, ["0", "2", "0"]),
    (("GPU-a", "GPU-b"), 2, ["GPU-a", "GPU-b"]),
    ((), 2, [NO_GPU, NO_GPU]),
  )
  def test_workers_share_round_robin(self, gpus, workers, expected):
    machine = resources.Machine(8, gpus)
    environments = [
      _task(machine, "worker", index, workers) for index in range(workers)
    ]
    visible = [each["CUDA_VISIBLE_DEVICES"] for each in environments]
    self.assertEqual(visible, expected)
    for each in environments:
      shared = 0 < len(gpus) < workers
      self.assertEqual("TF_FORCE_GPU_ALLOW_GROWTH" in each, shared)

  def test_ps_and_coordinator_see_none(self):
    machine = resources.Machine(8, ("0", "1"))
    environ = {"CUDA_VISIBLE_DEVICES": "0,1"}
    ps = _task(machine, "ps", environ=environ)
    coordinator = resources.coordinator_environment(environ)
    self.assertEqual(ps["CUDA_VISIBLE_DEVICES"], NO_GPU)
    self.assertEqual(coordinator["CUDA_VISIBLE_DEVICES"], NO_GPU)

  def test_on_a_cluster_of_the_users_workers_alone_see_them(self):
    environ = {"CUDA_VISIBLE_DEVICES": "0,1"}
    ps = resources.common_environment(environ, "ps")
    self.assertEqual(ps["CUDA_VISIBLE_DEVICES"], NO_GPU)
    worker = resources.common_environment(environ, "worker")
    self.assertNotIn("CUDA_VISIBLE_DEVICES", worker)

  @parameterized.parameters(
    ("", ()),
    ("-1", ()),
    ("0", ("0",)),
    ("1, 0", ("1", "0")),
    ("2,-1,3", ("2",)),
    ("GPU-8a,MIG-1b", ("GPU-8a", "MIG-1b")),
  )
  def test_machine_respects_cuda_visible_devices(self, value, expected):
    machine = resources.Machine.detect({"CUDA_VISIBLE_DEVICES": value})
    self.assertEqual(machine.gpus, expected)

  @parameterized.parameters(
    ("echo 'GPU 0: A (UUID: GPU-1a-b)'; echo 'GPU 1: A (UUID: GPU-2c)'", 2),
    ("echo 'No devices found.'; exit 6", 0),
  )
  def test_machine_asks_the_driver(self, script, count):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    tool = pathlib.Path(folder, "nvidia-smi")
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    path = os.pathsep.join([folder, os.environ["PATH"]])
    with mock.patch.dict(os.environ, PATH=path):
      gpus = resources.Machine.detect({}).gpus
    self.assertEqual(gpus, ("GPU-1a-b", "GPU-2c")[:count])

  def test_machine_without_a_driver(self):
    with mock.patch.dict(os.environ, PATH=""):
      self.assertEqual(resources.Machine.detect({}).gpus, ())


if __name__ == "__main__":
  absltest.main()
