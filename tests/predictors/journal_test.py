"""Tests for the journal of reports."""

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf.predictors import journal
from tests.predictors.reports import number


def _report(i):
  """Report number i: every field is another one of its numbers."""
  return journal.Report(*(100.0 * i + field for field in range(journal.FIELDS)))


def _filled(capacity, count, jit_compile=False):
  rows = tf.Variable(tf.zeros([capacity, journal.FIELDS], journal.DTYPE))

  @tf.function(jit_compile=jit_compile)
  def write(i):
    base = 100.0 * tf.cast(i, tf.float32)
    journal.write(rows, i, journal.Report(*(base + f for f in range(7))))

  for i in range(count):
    write(number(i))
  return rows


class JournalTest(parameterized.TestCase):
  def test_fields_have_an_order(self):
    # Checkpoints hold them by position.
    self.assertEqual(
      journal.Report._fields,
      (
        *("version", "loss", "worker", "staleness"),
        *("compute_seconds", "communication_seconds", "pulled_at"),
      ),
    )

  @parameterized.parameters(False, True)
  def test_reads_what_was_written(self, jit_compile):
    rows = _filled(4, 3, jit_compile)
    for i in range(3):
      self.assertEqual(journal.read(rows.value(), number(i)), _report(i))
    np.testing.assert_array_equal(rows[3], np.zeros(7))

  @parameterized.parameters(False, True)
  def test_writes_over_the_oldest(self, jit_compile):
    rows = _filled(4, 6, jit_compile)
    # Numbers 4 and 5 lie where 0 and 1 were.
    np.testing.assert_array_equal(rows[:, 1], [401.0, 501.0, 201.0, 301.0])
    for i in range(2, 6):
      self.assertEqual(journal.read(rows.value(), number(i)), _report(i))

  def test_holds_large_versions_exactly(self):
    rows = tf.Variable(tf.zeros([2, journal.FIELDS], journal.DTYPE))
    version = number(2**40 + 1)
    journal.write(
      rows,
      version,
      journal.Report(version - 3, 0.5, number(1), 3.0, 0.0, 0.0, 0.0),
    )
    report = journal.read(rows.value(), version)
    self.assertEqual(int(report.version), 2**40 - 2)
    self.assertEqual(float(report.loss), 0.5)

  def test_reads_many_at_once(self):
    rows = _filled(4, 6)
    report = journal.read(rows.value(), tf.constant([[5, 2], [3, 4]], tf.int64))
    np.testing.assert_array_equal(
      report.staleness, [[503.0, 203.0], [303.0, 403.0]]
    )

  def test_window_is_oldest_first_and_wraps_around(self):
    rows = _filled(4, 7)
    window = journal.window(rows.value(), number(6), 3)
    np.testing.assert_array_equal(window.version, [300.0, 400.0, 500.0])
    windows = journal.window(rows.value(), tf.constant([7, 5], tf.int64), 2)
    np.testing.assert_array_equal(
      windows.loss, [[501.0, 601.0], [301.0, 401.0]]
    )

  @parameterized.parameters((1, 1024), (64, 1024), (65, 1040), (128, 2048))
  def test_capacity_grows_with_the_workers(self, num_workers, expected):
    self.assertEqual(journal.capacity_for(num_workers), expected)


if __name__ == "__main__":
  absltest.main()
