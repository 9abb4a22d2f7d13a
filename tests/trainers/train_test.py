"""lc-asgd-train as a user runs it."""

import contextlib
import csv
import importlib.util
import json
import math
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

import keras
import pytest
from absl.testing import absltest, parameterized

import lc_asgd_tf
from lc_asgd_tf import cluster
from tests.trainers import preloaded

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_KEYS = (
  "optimizer",
  "num_workers",
  "num_ps",
  "test_accuracy",
  "test_loss",
  "pushes",
  "staleness_mean",
  "staleness_max",
  "loss_prediction_mae",
  "loss_persistence_mae",
  "step_prediction_mae",
  "step_persistence_mae",
  "seconds",
  "output_dir",
)
_SMALL = ("--model=mlp", "--num_workers=2", "--steps_per_epoch=40")


def _start(
  directory, *arguments, ignored=(), stdout=subprocess.PIPE, **environ
):
  return subprocess.Popen(
    [sys.executable, "-m", "trainers.train", *arguments],
    cwd=directory,
    env=os.environ | {"PYTHONPATH": str(_ROOT)} | environ,
    stdout=stdout,
    stderr=subprocess.PIPE,
    text=True,
    preexec_fn=lambda: [signal.signal(s, signal.SIG_IGN) for s in ignored],
  )


def _train(directory, *arguments, **environ):
  process = _start(directory, *arguments, **environ)
  stdout, stderr = process.communicate(timeout=250)
  return process.returncode, stdout, stderr


def _tasks(directory):
  """Returns the pids of the cluster that logs below a directory."""
  pids = []
  for entry in pathlib.Path("/proc").glob("[0-9]*"):
    with contextlib.suppress(OSError):
      log = os.readlink(entry / "fd" / "1")
      if log.startswith(os.path.realpath(directory)):
        pids.append(int(entry.name))
  return pids


def _users_cluster():
  """Returns the specification of a cluster that nobody has started."""
  addresses = [f"127.0.0.1:{port}" for port in cluster.free_ports(4)]
  return cluster.ClusterSpecification(
    chief=addresses[0], ps=addresses[1:2], workers=addresses[2:]
  )


class TrainTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.directory = self.enter_context(tempfile.TemporaryDirectory())

  def assert_no_task_left(self):
    deadline = time.monotonic() + 10
    while _tasks(self.directory) and time.monotonic() < deadline:
      time.sleep(0.1)
    self.assertEmpty(_tasks(self.directory))

  def run_preloaded(self, *arguments, **environ):
    return preloaded.run(
      "trainers.train", *arguments, directory=self.directory, environ=environ
    )

  def assert_one_line(self, ended, named):
    self.assertEqual(ended.returncode, 2, ended.stderr)
    self.assertEmpty(ended.stdout)
    self.assertLen(ended.stderr.splitlines(), 1, ended.stderr)
    self.assertIn(named, ended.stderr)
    self.assert_no_task_left()

  def wait_for_training(self):
    """Returns the pids of the tasks once the first epoch is over."""
    history = pathlib.Path(self.directory, "run", "history.csv")
    deadline = time.monotonic() + 120
    while not (history.exists() and history.stat().st_size):
      self.assertLess(time.monotonic(), deadline, "training does not start")
      time.sleep(0.1)
    return _tasks(self.directory)

  def test_trains_and_continues(self):
    status, stdout, stderr = _train(
      self.directory,
      *_SMALL,
      "--epochs=2",
      "--output_dir=run",
      "--record_trace",
    )
    self.assertEqual(status, 0, stderr)
    result = json.loads(stdout.splitlines()[-1])
    self.assertContainsSubset(_KEYS, result)
    self.assertEqual(result["optimizer"], "lc_asgd")
    self.assertEqual(result["num_workers"], 2)
    self.assertEqual(result["num_ps"], 1)
    self.assertEqual(result["pushes"], 80)
    # TensorFlow's noise is in the logs, and nowhere else.
    self.assertEqual(stderr, "")
    run = pathlib.Path(self.directory, "run")
    self.assertEqual(
      {path.name for path in (run / "logs").iterdir()},
      {"coordinator.log", "ps_0.log", "worker_0.log", "worker_1.log"},
    )

    with open(run / "trace.csv", newline="") as file:
      self.assertLen(list(csv.DictReader(file)), 80)
    table = lc_asgd_tf.delays.Trace(run / "trace.csv").table(2)
    self.assertGreater(table.min(), 0)

    model = keras.models.load_model(run / "model.keras")
    self.assertIsInstance(model.optimizer, lc_asgd_tf.AsyncOptimizer)
    self.assertEqual(int(model.optimizer.iterations.numpy()), 80)

    # Again: refused, unless it is to be continued, with the same flags.
    ended = self.run_preloaded(
      *_SMALL, "--epochs=3", "--output_dir=run", "--resume", "--batch_size=8"
    )
    self.assert_one_line(ended, "--batch_size=32, which is 8 now")
    ended = self.run_preloaded(*_SMALL, "--epochs=2", "--output_dir=run")
    self.assert_one_line(ended, "--resume")
    status, stdout, stderr = _train(
      self.directory,
      *_SMALL,
      "--epochs=3",
      "--num_ps=1",
      "--resume",
      "--output_dir=run",
    )
    self.assertEqual(status, 0, stderr)
    with open(run / "history.csv", newline="") as file:
      rows = list(csv.DictReader(file))
    self.assertEqual([row["epoch"] for row in rows], ["0", "1", "2"])
    history = json.loads((run / "history.json").read_text())
    self.assertEqual(history["pushes"], [40, 40, 40])
    for name in ("loss", "accuracy", "val_loss", "staleness_mean"):
      self.assertTrue(all(map(math.isfinite, history[name])), name)
    model = keras.models.load_model(run / "model.keras")
    self.assertEqual(int(model.optimizer.iterations.numpy()), 120)

    # There may be nothing left to do.
    status, _, stderr = _train(
      self.directory, *_SMALL, "--epochs=3", "--resume", "--output_dir=run"
    )
    self.assertEqual(status, 0, stderr)
    self.assertIn("run has 3 epochs already", stderr)
    self.assertEqual(json.loads((run / "history.json").read_text()), history)
    self.assert_no_task_left()

  @parameterized.named_parameters(
    ("unknown_flag", ["--nonsense"], "nonsense"),
    ("unknown_value", ["--optimizer=nonsense"], "dc_asgd"),
    ("bad_number", ["--num_workers=0"], "num_workers"),
    ("argument", ["nonsense"], "nonsense"),
    ("data_set", ["--dataset=digitz"], "digits"),
    (
      "no_integers",
      ["--dataset=breast_cancer", "--model=characters"],
      "takes integers",
    ),
    ("batch", ["--batch_size=5000"], "batch_size"),
    ("momentum", ["--momentum=1"], "less than 1"),
    ("nesterov", ["--optimizer=dana", "--nesterov"], "--nesterov"),
    (
      "lambda_0",
      ["--lambda_0=0.1"],
      "--lambda_0 means nothing with --optimizer=lc_asgd",
    ),
    ("lambda_0_off", ["--lambda_0=0"], "--lambda_0 means nothing with"),
    ("predictor", ["--optimizer=asgd", "--loss_predictor=holt"], "lc_asgd"),
    ("horizon", ["--optimizer=ssgd", "--horizon=predicted"], "--horizon"),
    ("dispatch", ["--optimizer=ssgd", "--steps_per_dispatch=4"], "leave it"),
    ("nesterov_0", ["--nesterov", "--momentum=0"], "leave it out"),
    ("nesterov_adam", ["--inner_optimizer=adam", "--nesterov"], "=sgd"),
    ("momentum_adam", ["--inner_optimizer=adam", "--momentum=0.5"], "=sgd"),
    # These mean something, or nothing that matters: it is the data set.
    (
      "momentum_dana",
      [
        "--optimizer=dana",
        "--inner_optimizer=adam",
        "--momentum=0.5",
        "--dataset=digitz",
      ],
      "digits",
    ),
    (
      "no_momentum_adam",
      ["--inner_optimizer=adam", "--momentum=0", "--dataset=digitz"],
      "digits",
    ),
    ("timeout", ["--connect_timeout=nan"], "finite"),
    ("pattern", ["--num_workers=1", "--output_dir=a[1]"], "for patterns"),
    ("long", ["--output_dir=" + 300 * "x"], "another --output_dir"),
    ("resume", ["--resume"], "--output_dir"),
    ("learning_rate", ["--learning_rate=nan"], "finite"),
    ("nothing_to_resume", ["--resume", "--output_dir=none"], "none"),
    ("output", ["--output_dir=/proc/none"], "/proc/none"),
    ("no_output", ["--output_dir="], "must not be empty"),
    ("no_data_dir", ["--data_dir="], "must not be empty"),
    ("home", ["--output_dir=~nobody-of-this-name/x"], "home"),
    (
      "augment",
      ["--dataset=breast_cancer", "--model=mlp", "--augment"],
      "--augment",
    ),
  )
  def test_bad_input_is_one_line(self, arguments, named):
    self.assert_one_line(self.run_preloaded(*arguments), named)

  def test_bad_input_is_one_line_and_no_noise(self):
    status, stdout, stderr = _train(self.directory, "--model=nonsense")
    ended = subprocess.CompletedProcess("", status, stdout, stderr)
    self.assert_one_line(ended, "resnet20")

  @absltest.skipIf(importlib.util.find_spec("tensorboard"), "It is installed.")
  def test_tensorboard_has_to_be_installed(self):
    self.assert_one_line(self.run_preloaded("--tensorboard"), "install")

  @parameterized.named_parameters(
    ("malformed", "{", "TF_CONFIG"),
    (
      "worker",
      json.dumps(
        {
          "cluster": {
            "worker": ["127.0.0.1:1111"],
            "ps": ["127.0.0.1:1112"],
            "chief": ["127.0.0.1:1113"],
          },
          "task": {"type": "worker", "index": 0},
        }
      ),
      "lc-asgd-serve",
    ),
  )
  def test_bad_cluster_is_one_line(self, tf_config, named):
    self.assert_one_line(self.run_preloaded(TF_CONFIG=tf_config), named)

  def test_a_cluster_that_does_not_answer_is_one_line(self):
    specification = _users_cluster()
    ended = self.run_preloaded(
      "--connect_timeout=0", TF_CONFIG=specification.tf_config("chief", 0)
    )
    self.assert_one_line(
      ended,
      f"ps 0 at {specification.ps[0]}, worker 0 at {specification.workers[0]}",
    )

  def test_a_port_of_the_chief_that_is_taken_is_one_line(self):
    specification = _users_cluster()
    port = int(specification.chief.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
      ended = self.run_preloaded(TF_CONFIG=specification.tf_config("chief", 0))
    self.assert_one_line(ended, f"port {port} is in use")

  @parameterized.parameters(("worker", 1), ("ps", 2))
  def test_a_dead_task_ends_the_run(self, kind, num_workers):
    process = _start(
      self.directory,
      *_SMALL,
      "--optimizer=asgd",  # Its server starts faster than LC-ASGD's.
      f"--num_workers={num_workers}",
      "--epochs=1000",
      "--output_dir=run",
      # As in the background of a script.
      ignored=(signal.SIGINT,),
    )
    tasks = self.wait_for_training()
    self.assertLen(tasks, num_workers + 1)
    log = os.path.join(
      os.path.realpath(self.directory), "run", "logs", f"{kind}_0.log"
    )
    victim = next(p for p in tasks if os.readlink(f"/proc/{p}/fd/1") == log)
    os.kill(victim, signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    self.assertEqual(process.returncode, 1)
    self.assertLen(stderr.splitlines(), 1, stderr)
    self.assertIn(f"{kind} 0 exited with status -9", stderr)
    self.assert_no_task_left()

  def test_ctrl_c_leaves_nothing_behind(self):
    process = _start(
      self.directory, *_SMALL, "--epochs=1000", "--output_dir=run"
    )
    self.assertLen(self.wait_for_training(), 3)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    self.assertEqual(process.returncode, 130)
    self.assertEqual(stderr.strip(), "interrupted")
    self.assert_no_task_left()


class UsersClusterTestCase(parameterized.TestCase):
  """Tasks that somebody else starts, stops and starts again."""

  def setUp(self):
    super().setUp()
    self.directory = self.enter_context(tempfile.TemporaryDirectory())
    self.run_path = pathlib.Path(self.directory, "run")
    self.specification = _users_cluster()
    self.tasks = {
      task: self.serve(*task)
      for task in (("ps", 0), ("worker", 0), ("worker", 1))
    }

  def serve(self, *task):
    """Starts a task; returns its process."""
    process = subprocess.Popen(
      [sys.executable, "-m", "trainers.serve"],
      cwd=self.directory,
      env=os.environ
      | {
        "PYTHONPATH": str(_ROOT),
        "TF_CONFIG": self.specification.tf_config(*task),
      },
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    self.addCleanup(process.wait)
    self.addCleanup(process.kill)
    return process

  def kill(self, *task):
    self.tasks[task].kill()
    self.tasks[task].wait()

  def start(self, *arguments, **options):
    """Starts the coordinator; returns its process."""
    process = _start(
      self.directory,
      "--model=mlp",
      "--output_dir=run",
      *arguments,
      TF_CONFIG=self.specification.tf_config("chief", 0),
      **options,
    )
    self.addCleanup(process.communicate)
    self.addCleanup(process.kill)
    self.coordinator = process
    return process

  def rows(self, name):
    """Returns the rows of one of the run's files that are there by now."""
    path = self.run_path / name
    if not path.exists():
      return []
    with open(path, newline="") as file:
      return list(csv.DictReader(file))

  def wait_until(self, condition):
    deadline = time.monotonic() + 90
    while not condition():
      self.assertLess(time.monotonic(), deadline)
      if self.coordinator.poll() is not None:
        self.fail(self.coordinator.communicate()[1])
      time.sleep(0.1)

  def wait_for_epochs(self, more):
    goal = len(self.rows("history.csv")) + more
    self.wait_until(lambda: len(self.rows("history.csv")) >= goal)

  def pushes(self, worker):
    rows = self.rows("trace.csv")
    return sum(int(row["worker"]) == worker for row in rows)


class UsersClusterTest(UsersClusterTestCase):
  def test_trains(self):
    process = self.start("--steps_per_epoch=20", "--epochs=1")
    stdout, stderr = process.communicate(timeout=250)
    self.assertEqual(process.returncode, 0, stderr)
    result = json.loads(stdout.splitlines()[-1])
    self.assertEqual(result["num_workers"], 2)
    self.assertEqual(result["pushes"], 20)

  def assert_continues(self, *arguments, pushes_per_update=1):
    """Starts the coordinator again; what is counted is as if it never ended."""
    over = len(self.rows("history.csv"))
    process = self.start(*arguments, f"--epochs={over + 2}", "--resume")
    stdout, stderr = process.communicate(timeout=120)
    self.assertEqual(process.returncode, 0, stderr)
    rows = self.rows("history.csv")
    self.assertEqual([int(row["epoch"]) for row in rows], list(range(over + 2)))
    self.assertEqual([float(row["pushes"]) for row in rows[-2:]], [100, 100])
    model = keras.models.load_model(self.run_path / "model.keras")
    self.assertEqual(
      int(model.optimizer.iterations.numpy()),
      # Of a round that is begun and forgotten, none.
      sum(float(row["pushes"]) // pushes_per_update for row in rows),
    )

  def test_coordinator_goes_and_comes_back(self):
    arguments = ("--steps_per_epoch=100",)
    process = self.start(*arguments, "--epochs=10000")
    self.wait_for_epochs(3)
    # In the middle of anything; its tasks serve the next one.
    process.kill()
    process.communicate()
    self.assert_continues(*arguments)

  @parameterized.parameters(("asgd", 1, False), ("ssgd", 2, True))
  def test_tasks_go_and_come_back(
    self, optimizer, pushes_per_update, replaced_at_once
  ):
    arguments = (
      f"--optimizer={optimizer}",
      "--steps_per_epoch=100",
      "--record_trace",
    )
    process = self.start(*arguments, "--epochs=10000")
    self.wait_until(lambda: self.pushes(1) > 0)

    # Without a worker, training goes on.
    self.kill("worker", 1)
    self.wait_for_epochs(3)
    away = self.pushes(1)
    self.wait_for_epochs(3)
    self.assertEqual(self.pushes(1), away)
    self.assertIsNone(process.poll())

    # It is taken in again.
    self.serve("worker", 1)
    self.wait_until(lambda: self.pushes(1) > away)

    # Without a ps, it cannot go on; nor with another one in its place.
    self.kill("ps", 0)
    if replaced_at_once:
      self.serve("ps", 0)
    _, stderr = process.communicate(timeout=90)
    self.assertEqual(process.returncode, 1)
    self.assertLen(stderr.splitlines(), 1, stderr)
    self.assertIn("a ps of the cluster is gone", stderr)
    self.assertIn("--resume --output_dir=run", stderr)

    # It is continued from the last epoch that was over.
    if not replaced_at_once:
      self.serve("ps", 0)
    self.assert_continues(*arguments, pushes_per_update=pushes_per_update)


@pytest.mark.slow
@pytest.mark.timeout(1800)
class PreemptibleWorkerTest(UsersClusterTestCase):
  """A worker is killed at many moments, of which only few are bad."""

  DEATHS = 40

  @parameterized.parameters("asgd", "ssgd", "lc_asgd")
  def test_dies_again_and_again(self, optimizer):
    self.start(
      f"--optimizer={optimizer}",
      "--steps_per_epoch=100",
      "--record_trace",
      "--epochs=100000",
      # Hundreds of progress bars, which nobody reads, would fill a pipe.
      stdout=subprocess.DEVNULL,
    )
    moments = random.Random(0)
    self.wait_until(lambda: self.pushes(1) > 0)
    for _ in range(self.DEATHS):
      time.sleep(moments.random())
      self.kill("worker", 1)
      # The other one goes on, and later they do together.
      self.wait_for_epochs(2)
      before = self.pushes(1)
      self.tasks["worker", 1] = self.serve("worker", 1)
      self.wait_until(lambda before=before: self.pushes(1) > before)
    pushes = [float(row["pushes"]) for row in self.rows("history.csv")]
    self.assertGreaterEqual(min(pushes), 100)
    # The last push of who is dead may arrive when another goes on in its place.
    surplus = sum(pushes) - 100 * len(pushes)
    per_death = 2 if optimizer == "ssgd" else 1  # The rest of its round, too.
    self.assertLessEqual(surplus, self.DEATHS * per_death)


class MainJobTest(parameterized.TestCase):
  SEEDS = (0,)

  def test_reaches_97_percent(self):
    for seed in self.SEEDS:
      with self.subTest(seed=seed), tempfile.TemporaryDirectory() as directory:
        status, stdout, stderr = _train(directory, f"--seed={seed}")
        self.assertEqual(status, 0, stderr)
        result = json.loads(stdout.splitlines()[-1])
        self.assertEqual(result["num_workers"], 4)
        self.assertGreaterEqual(result["test_accuracy"], 0.97)
        self.assertLess(result["seconds"], 180)


@pytest.mark.slow
class MainJobOtherSeedsTest(MainJobTest):
  SEEDS = (1, 2)


if __name__ == "__main__":
  absltest.main()
