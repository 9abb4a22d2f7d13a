import numpy as np
from absl.testing import absltest

from lc_asgd_tf.reports import record
from tests.reports import runs


class RecordTest(absltest.TestCase):
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

  def test_the_last_test_error_is_the_runs(self):
    np.testing.assert_array_equal(
      record.test_errors(runs.run(test_error=0.04)), [0.5, 0.2, 0.04]
    )

  def test_without_epochs_there_are_no_test_errors(self):
    self.assertEmpty(record.test_errors(runs.run(history=[])))


class CompleteTest(absltest.TestCase):
  def test_takes_pushes_that_are_missing_from_another_run(self):
    one = runs.sequential(history=[{"loss": 2.0}, {"loss": 1.0}])
    other = runs.run(history=[{"pushes": 7}, {"pushes": 5}])
    completed, same = record.complete([one, other])
    np.testing.assert_array_equal(record.pushes(completed), [7, 12])
    np.testing.assert_array_equal(record.column(completed, "loss"), [2, 1])
    self.assertEqual(same, other)
    self.assertNotIn("pushes", one["history"][0])

  def test_leaves_pushes_that_are_there(self):
    one = runs.run(history=[{"pushes": 7}])
    other = runs.run(history=[{"pushes": 9}])
    self.assertEqual(record.complete([one, other]), [one, other])

  def test_what_no_run_says_stays_unknown(self):
    one = runs.sequential(history=[{"loss": 2.0}, {"loss": 1.0}])
    other = runs.run(history=[{"pushes": 7}])
    completed, _ = record.complete([one, other])
    np.testing.assert_array_equal(record.pushes(completed), [7, np.nan])


if __name__ == "__main__":
  absltest.main()
