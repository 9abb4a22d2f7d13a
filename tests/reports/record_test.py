import math

import numpy as np
from absl.testing import absltest, parameterized

from lc_asgd_tf import errors
from lc_asgd_tf.reports import record
from tests.reports import runs


class RecordTest(parameterized.TestCase):
  def test_column_has_nan_for_null_and_for_what_is_missing(self):
    one = runs.run(history=[{"loss": 2.5}, {"loss": None}, {}])
    np.testing.assert_array_equal(
      record.column(one, "loss"), [2.5, np.nan, np.nan]
    )

  def test_pushes_add_up(self):
    one = runs.run(history=[{"pushes": 7}, {"pushes": 5}, {"pushes": 8}])
    np.testing.assert_array_equal(record.pushes(one), [7, 12, 20])

  def test_pushes_are_unknown_after_a_gap(self):
    one = runs.run(history=[{"pushes": 7}, {"pushes": None}, {"pushes": 8}])
    np.testing.assert_array_equal(record.pushes(one), [7, np.nan, np.nan])

  def test_times_are_those_of_the_clock(self):
    np.testing.assert_array_equal(record.times(runs.run()), [5, 10, 15])

  def test_a_push_of_a_sequential_run_takes_one(self):
    np.testing.assert_array_equal(record.times(runs.sequential()), [10, 20, 30])

  def test_a_trace_is_in_seconds_which_a_sequential_run_does_not_tell(self):
    times = record.times(runs.sequential(delays="trace.csv"))
    np.testing.assert_array_equal(times, [np.nan] * 3)

  def test_says_what_is_no_run(self):
    record.check([runs.run(), runs.sequential()], "results.jsonl")
    other = {k: v for k, v in runs.run().items() if k != "history"}
    with self.assertRaisesRegex(
      errors.UserError, "^results.jsonl: record 2 has no 'history'"
    ):
      record.check([runs.run(), other], "results.jsonl")

  @parameterized.parameters(
    {"test_error": "0.1"},
    {"test_error": None},
    {"num_workers": 4.5},
    {"seed": True},
    {"failed": 0},
    {"history": {"loss": 1.0}},
    {"history": [[1.0]]},
    {"history": [{"loss": "low"}]},
    {"history": [{"loss": [1, 2]}]},
    {"history": [{"loss": 10**400}]},
    {"learning_rate": 10**400},
    {"num_workers": 10**30},
    {"test_error": math.nan},
    {"staleness": [1, 2]},
    {"staleness": {"late": 1}},
    {"staleness": {"1": None}},
    {"step_mae": "low"},
    {"train_split": 10},
  )
  def test_says_what_no_run_wrote(self, **field):
    (name,) = field
    other = runs.run() | field
    with self.assertRaisesRegex(
      errors.UserError, f"^results.jsonl: record 1 has the '{name}' "
    ):
      record.check([other], "results.jsonl")

  def test_a_whole_number_is_a_number(self):
    whole = {"test_error": 0, "learning_rate": 1, "momentum": 0}
    record.check([runs.run() | whole], "results.jsonl")

  def test_takes_what_is_not_known(self):
    record.check([runs.run(step_mae=None, staleness={})], "results.jsonl")

  def test_takes_what_rules_remember(self):
    history = [{"loss": 1.0, "signals": [0.5, None], "staleness_mean": None}]
    record.check([runs.run(history=history)], "results.jsonl")

  def test_the_last_test_error_is_the_runs(self):
    np.testing.assert_array_equal(
      record.test_errors(runs.run(test_error=0.04)), [0.5, 0.2, 0.04]
    )

  def test_without_epochs_there_are_no_test_errors(self):
    self.assertEmpty(record.test_errors(runs.run(history=[])))


if __name__ == "__main__":
  absltest.main()
