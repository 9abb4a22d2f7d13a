"""Tests for running cells in several processes."""

import dataclasses
import os
import subprocess
import sys
import time

from absl.testing import absltest

from lc_asgd_tf import errors
from lc_asgd_tf.comparison import runner
from tests.comparison import grid_test

_CELLS = [
  dataclasses.replace(grid_test._BASE, rule=rule, seed=seed)
  for rule in ("a", "b", "c")
  for seed in range(3)
]


# Called in other processes, which find them by the name of this module.
def _where(cells):
  for cell in cells:
    threads = os.environ["TF_NUM_INTRAOP_THREADS"]
    yield cell, {"process": os.getpid(), "threads": threads}


def _user_error(cells):
  yield cells[0], {}
  raise errors.UserError("something that the user can put right")


def _defect(cells):
  raise KeyError("a defect")
  yield cells


def _exits(cells):
  yield cells[0], {}
  sys.exit(0)


def _killed(cells):
  yield cells[0], {}
  # Its result gets away first.
  time.sleep(1)
  os.kill(os.getpid(), 9)


def _quits(cells):
  yield cells[0], {}
  time.sleep(1)
  os._exit(0)


def _endless(cells):
  yield cells[0], {"process": os.getpid()}
  time.sleep(600)


def _kill(process):
  try:
    os.kill(process, 9)
  except ProcessLookupError:
    pass


_RUN_ENDLESSLY = """
from lc_asgd_tf.comparison import runner
from tests.comparison import runner_test
for _, result in runner.run(runner_test._CELLS, runner_test._endless, 1):
  print(result["process"], flush=True)
"""


class RunnerTest(absltest.TestCase):
  def test_runs_each_cell_once_and_programs_in_one_process(self):
    before = dict(os.environ)
    results = dict(runner.run(_CELLS, _where, processes=2))
    self.assertEqual(dict(os.environ), before)
    self.assertCountEqual(results, _CELLS)
    self.assertEqual({r["threads"] for r in results.values()}, {"1"})
    for rule in ("a", "b", "c"):
      used = {r["process"] for c, r in results.items() if c.rule == rule}
      self.assertLen(used, 1)
    used = {result["process"] for result in results.values()}
    self.assertBetween(len(used), 1, 2)
    self.assertNotIn(os.getpid(), used)

  def test_nothing_to_run(self):
    self.assertEqual(list(runner.run([], _where, 2)), [])

  def test_hands_over_what_there_is_before_an_error(self):
    results = runner.run(_CELLS[:3], _user_error, 1)
    self.assertEqual(next(results)[0], _CELLS[0])
    with self.assertRaisesRegex(errors.UserError, "put right"):
      next(results)

  def test_a_defect_shows_its_traceback(self):
    with self.assertRaisesRegex(RuntimeError, "(?s)Traceback.*a defect"):
      list(runner.run(_CELLS[:3], _defect, 1))

  def test_a_rule_that_exits(self):
    results = runner.run(_CELLS[:3], _exits, 1)
    next(results)
    with self.assertRaisesRegex(RuntimeError, "(?s)Traceback.*SystemExit"):
      next(results)

  def test_a_process_that_dies(self):
    results = runner.run(_CELLS[:3], _killed, 1)
    next(results)
    with self.assertRaisesRegex(errors.UserError, "died .exit code -9"):
      next(results)

  def test_a_process_that_ends_too_early(self):
    results = runner.run(_CELLS[:3], _quits, 1)
    next(results)
    with self.assertRaisesRegex(errors.UserError, "died .exit code 0"):
      next(results)

  def test_nothing_outlives_a_killed_comparison(self):
    comparison = subprocess.Popen(
      [sys.executable, "-c", _RUN_ENDLESSLY], stdout=subprocess.PIPE, text=True
    )
    worker = int(comparison.stdout.readline())
    self.addCleanup(_kill, worker)
    comparison.kill()
    # What the worker writes to ends when there is nobody to write to it.
    comparison.communicate(timeout=20)


if __name__ == "__main__":
  absltest.main()
