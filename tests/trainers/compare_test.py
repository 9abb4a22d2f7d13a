"""lc-asgd-compare as a user runs it."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from absl.testing import absltest, parameterized

from lc_asgd_tf import reports
from lc_asgd_tf.comparison import store
from tests.trainers import preloaded

_ROOT = pathlib.Path(__file__).resolve().parents[2]
# Seconds of computing: a table of 30 features.
_SMALL = (
  "--dataset=breast_cancer",
  "--model=mlp",
  "--num_workers=1,4",
  "--epochs=2",
  "--seeds=2",
)

_MODULE = """
import keras
from lc_asgd_tf import comparison, compensation, models


def linear(input_shape, num_classes):
  return keras.Sequential(
    [keras.Input(input_shape), keras.layers.Dense(num_classes)]
  )


models.register("linear", linear)
comparison.register(
  "mine", comparison.Rule(lambda momentum: compensation.StalenessAware())
)
"""


def _start(directory, *arguments):
  return subprocess.Popen(
    [sys.executable, "-m", "trainers.compare", *arguments],
    cwd=directory,
    env=os.environ | {"PYTHONPATH": str(_ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    encoding="utf-8",
  )


def _compare(directory, *arguments):
  process = _start(directory, *arguments)
  stdout, stderr = process.communicate(timeout=280)
  return process.returncode, stdout, stderr


class CompareTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.directory = pathlib.Path(self.create_tempdir().full_path)
    self.output = self.directory / "lc_asgd_comparison"

  def test_lc_asgd_is_ahead_at_64_workers(self):
    began = time.monotonic()
    status, stdout, stderr = _compare(self.directory, "--preset=smoke")
    self.assertEqual(status, 0, stderr)
    print(f"the preset took {time.monotonic() - began:.0f} s")
    records = store.read(self.output)
    self.assertLen(records, 2 + 3 * 2)
    errors = {
      rule: [
        record["test_error"] for record in records if record["rule"] == rule
      ]
      for rule in ("sequential", "asgd", "dc_asgd", "lc_asgd")
    }
    self.assertLess(max(errors["sequential"]), 0.1)
    # Each seed of LC-ASGD, not only the mean, and by a wide margin.
    for rule in ("asgd", "dc_asgd"):
      self.assertLess(2 * max(errors["lc_asgd"]), min(errors[rule]), errors)
    self.assertIn("| lc_asgd |  | **", stdout)
    plots = [path.name.split("-")[0] for path in self.output.glob("*.png")]
    self.assertContainsSubset(("error", "loss", "staleness"), plots)

  @pytest.mark.slow
  def test_goes_on_where_it_was_killed(self):
    arguments = (*_SMALL, "--rules=asgd,dc_asgd", "--processes=1")
    process = _start(self.directory, *arguments)
    results = self.output / "results.jsonl"
    while not (results.exists() and results.read_text().count("\n")):
      self.assertIsNone(process.poll(), "it ended before it could be killed")
      time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    self.assertEqual(process.returncode, 130, stderr)
    self.assertEqual(stderr.splitlines()[-1], "interrupted")
    kept = store.read(self.output)
    self.assertLess(len(kept), 6)
    status, stdout, stderr = _compare(self.directory, *arguments)
    self.assertEqual(status, 0, stderr)
    self.assertIn(f"6 runs, of which {len(kept)} are done already", stderr)
    records = store.read(self.output)
    self.assertEqual(records[: len(kept)], kept)
    self.assertLen(set(map(store.cell_of, records)), 6)
    self.assertLen(records, 6)
    self.assertEqual(reports.write(records, self.output), stdout)

  @pytest.mark.slow
  def test_rules_and_models_of_the_users_own(self):
    (self.directory / "my_rules.py").write_text(_MODULE)
    status, stdout, stderr = _compare(
      self.directory,
      *_SMALL[:1],
      *_SMALL[2:],
      "--import=my_rules",
      "--rules=mine,staleness_aware",
      "--model=linear",
    )
    self.assertEqual(status, 0, stderr)
    errors = {}
    for record in store.read(self.output):
      errors.setdefault(record["rule"], []).append(record["test_error"])
    # The same equation and the same seeds.
    self.assertEqual(errors["mine"], errors["staleness_aware"])
    self.assertIn("| mine |", stdout)

  def test_a_module_that_exits_is_one_line(self):
    pathlib.Path(self.directory, "script.py").write_text("exit(3)")
    ended = preloaded.run(
      "trainers.compare",
      *_SMALL,
      "--import=script",
      directory=self.directory,
    )
    self.assertEqual(ended.returncode, 2, ended.stderr)
    self.assertIn("--import=script: SystemExit: 3", ended.stderr)

  def test_a_log_that_cannot_be_written_is_one_line(self):
    os.makedirs(os.path.join(self.output, "compare.log"))
    ended = preloaded.run(
      "trainers.compare",
      *_SMALL,
      f"--output_dir={self.output}",
      directory=self.directory,
    )
    self.assertEqual(ended.returncode, 2, ended.stderr)
    self.assertLen(ended.stderr.splitlines(), 1, ended.stderr)
    self.assertIn("cannot write", ended.stderr)

  @parameterized.parameters(
    (("--rules=lc_asgd", "--momentum=0.9"), "=adam: leave it out"),
    (("--rules=lc_asgd", "--momentum=0"), "digits"),
    # It has a momentum of its own; what is wrong is the data set.
    (("--rules=dana", "--momentum=0.9"), "digits"),
  )
  def test_momentum_that_means_nothing(self, flags, message):
    ended = preloaded.run(
      "trainers.compare",
      *_SMALL,
      "--inner_optimizer=adam",
      "--dataset=digitz",
      *flags,
      directory=self.directory,
    )
    self.assertEqual(ended.returncode, 2, ended.stderr)
    self.assertIn(message, ended.stderr)

  @parameterized.parameters(
    ("--preset=huge", "preset"),
    ("--rules=lcasgd", "there is no rule 'lcasgd'"),
    ("--num_workers=0", "--num_workers: '0' is not a whole number from 1 on"),
    ("--num_workers=9999999999", "--num_workers: '9999999999' is not"),
    ("--momentum=1", "less than 1"),
    ("--dataset=digitz", "digits"),
    ("--batch_size=5000", "batch_size=5000 is more than the"),
    ("--import=.rules", "the whole name of a module"),
    ("--rules=", "--rules is empty"),
    ("--delays=", "--delays is empty"),
    ("--delays=none", "--delays=none is what one worker has"),
    ("--target_error=nan", "finite"),
    ("--output_dir=", "must not be empty"),
    ("--data_dir=", "must not be empty"),
  )
  def test_bad_input_is_one_line(self, flag, message):
    ended = preloaded.run(
      "trainers.compare", *_SMALL, flag, directory=self.directory
    )
    self.assertEqual(ended.returncode, 2, ended.stderr)
    self.assertLen(ended.stderr.splitlines(), 1, ended.stderr)
    self.assertIn(message, ended.stderr)
    self.assertEmpty(ended.stdout)


if __name__ == "__main__":
  absltest.main()
