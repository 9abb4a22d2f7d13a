"""Tests for the callback that records traces."""

import pathlib
from unittest import mock

import numpy as np
from absl import logging
from absl.testing import absltest

from lc_asgd_tf import callbacks, delays
from lc_asgd_tf.predictors import journal

_CAPACITY = 8
_CLOCK = "lc_asgd_tf.callbacks.trace_recorder.time.monotonic"


class _Trainer:
  """Holds a journal, like an `AsyncTrainer`; counts how often it is read."""

  def __init__(self):
    self.rows = np.zeros([_CAPACITY, journal.FIELDS])
    self.version = 0
    self.readings = 0

  def push(
    self, worker, compute_seconds, communication_seconds=0.0, pulled_at=0.0
  ):
    self.rows[self.version % _CAPACITY] = journal.Report(
      version=self.version,
      loss=1.0,
      worker=worker,
      staleness=0,
      compute_seconds=compute_seconds,
      communication_seconds=communication_seconds,
      pulled_at=pulled_at,
    )
    self.version += 1

  def reports(self):
    self.readings += 1
    return self.rows.copy(), self.version


class TraceRecorderTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / "trace.csv"
    self.trainer = _Trainer()
    self.computed_at = [0.0] * 3
    self.recorder = callbacks.TraceRecorder(self.trainer, self.path)
    self.clock = self.enter_context(mock.patch(_CLOCK, return_value=100.0))

  def _begin(self):
    self.recorder.on_train_begin()
    self.recorder.on_epoch_begin(0)
    self.trainer.readings = 0

  def _push(self, *numbers):
    """Push number n is by worker n % 3, and takes n + 1 seconds; no rests."""
    for n in numbers:
      pulled_at = self.computed_at[n % 3] + 0.25
      self.trainer.push(n % 3, n + 0.75, 0.25, pulled_at)
      self.computed_at[n % 3] = pulled_at + n + 0.75

  def _assert_recorded(self, *numbers):
    lines = [f"{n % 3},{n + 1},0" for n in numbers]
    self.assertEqual(
      self.path.read_text().splitlines(),
      ["worker,seconds,rest_seconds", *lines],
    )

  def test_records_the_sum_of_both_times(self):
    self._begin()
    self.trainer.push(1, 0.5, 0.125)
    self.trainer.push(0, 1e-4)
    self.recorder.on_epoch_end(0)
    self.assertEqual(
      self.path.read_text(),
      "worker,seconds,rest_seconds\n1,0.625,0\n0,0.0001,0\n",
    )

  def test_leaves_out_reports_that_never_came(self):
    self._begin()
    self.trainer.push(1, 0.5)
    self.trainer.version += 1
    self.trainer.push(2, 0.25)
    self.recorder.on_epoch_end(0)
    self.assertEqual(
      self.path.read_text().splitlines()[1:], ["1,0.5,0", "2,0.25,0"]
    )

  def test_begins_a_file_that_is_empty(self):
    self.path.touch()
    self.recorder = callbacks.TraceRecorder(self.trainer, self.path, True)
    self._begin()
    self._push(0)
    self.recorder.on_epoch_end(0)
    self._assert_recorded(0)

  def test_another_fit_knows_nothing_of_the_last(self):
    for _ in range(2):
      self._begin()
      self.trainer.push(0, 1.0, 0.0, 10.0)
      self.trainer.push(0, 1.0, 0.0, 13.0)
      self.recorder.on_epoch_end(0)
      lines = self.path.read_text().splitlines()
      self.assertEqual(lines[1:], ["0,1,0", "0,1,2"])
      # Which has a journey, and ends where the other one must not begin.
      self.trainer.push(0, 1.0, 0.5, 14.5)
      self.recorder.on_epoch_end(0)

  def test_slow_pushes_do_not_make_it_read_less_often(self):
    self._begin()
    for step, (seconds, pushes) in enumerate(((1, 8), (60, 1), (0.5, 8))):
      self._push(*range(self.trainer.version, self.trainer.version + pushes))
      self.clock.return_value += seconds
      self.recorder.on_train_batch_end(step)
    self.assertEqual(self.trainer.readings, 3)

  def test_records_rests(self):
    self._begin()
    # Worker 0 computes from 10 to 12, and from 12.5, after its push, to 13.5.
    self.trainer.push(0, 2.0, 0.0, 10.0)
    self.trainer.push(1, 1.0, 0.0, 11.0)
    self.trainer.push(0, 1.0, 0.5, 12.5)
    self.recorder.on_epoch_end(0)
    # Its next dispatch begins at 17, of which its push and pull took as long as
    # they did last; worker 1 goes on without.
    self.recorder.on_epoch_begin(1)
    self.trainer.push(0, 1.0, 0.0, 17.0)
    self.trainer.push(1, 1.0, 0.25, 12.2505)
    self.recorder.on_epoch_end(1)
    self.assertEqual(
      self.path.read_text().splitlines()[1:],
      ["0,2,0", "1,1,0", "0,1.5,0", "0,1.5,3", "1,1.25,0"],
    )

  def test_a_push_takes_no_longer_than_the_time_until_the_next_pull(self):
    self._begin()
    self.trainer.push(0, 2.0, 0.0, 10.0)
    self.trainer.push(0, 1.0, 0.5, 12.5)
    self.trainer.push(0, 1.0, 0.0, 13.75)
    # A step that begins at once.
    self.trainer.push(0, 1.0, 0.0, 14.7505)
    self.recorder.on_epoch_end(0)
    self.assertEqual(
      self.path.read_text().splitlines()[1:],
      ["0,2,0", "0,1.5,0", "0,1.25,0", "0,1,0"],
    )

  def test_does_not_take_lost_reports_for_a_rest(self):
    self._begin()
    for n in range(3):
      self.trainer.push(0, 1.0, 0.0, float(n))
    self.recorder.on_epoch_end(0)
    for n in range(3, 20):
      self.trainer.push(0, 1.0, 0.0, float(n))
    with mock.patch.object(logging, "warning"):
      self.recorder.on_epoch_end(1)
    lines = self.path.read_text().splitlines()[1:]
    self.assertEqual(lines, ["0,1,0"] * (3 + _CAPACITY))

  def test_begins_the_file_at_once(self):
    self.recorder.on_train_begin()
    self._assert_recorded()

  def test_records_each_push_once(self):
    self._begin()
    self._push(*range(3))
    self.recorder.on_epoch_end(0)
    self._assert_recorded(*range(3))
    self.recorder.on_epoch_begin(1)
    self.recorder.on_epoch_end(1)
    self._assert_recorded(*range(3))
    self._push(3)
    self.recorder.on_epoch_end(2)
    self._assert_recorded(*range(4))

  def test_goes_around_the_ring(self):
    self._begin()
    for first in range(0, 35, 5):
      self._push(*range(first, first + 5))
      self.recorder.on_epoch_end(0)
    self._assert_recorded(*range(35))

  def test_a_full_ring_loses_nothing(self):
    self._begin()
    self._push(*range(3))
    self.recorder.on_epoch_end(0)
    with mock.patch.object(logging, "warning") as warning:
      self._push(*range(3, 3 + _CAPACITY))
      self.recorder.on_epoch_end(1)
    warning.assert_not_called()
    self._assert_recorded(*range(3 + _CAPACITY))

  def test_says_what_was_lost_and_goes_on(self):
    self._begin()
    self._push(*range(2))
    self.recorder.on_epoch_end(0)
    self._push(*range(2, 21))
    with mock.patch.object(logging, "warning") as warning:
      self.recorder.on_epoch_end(1)
    warning.assert_called_once()
    message, *values = warning.call_args.args
    self.assertIn("11 pushes", message % tuple(values))
    self._assert_recorded(0, 1, *range(13, 21))
    self._push(21)
    self.recorder.on_epoch_end(2)
    self._assert_recorded(0, 1, *range(13, 22))

  def test_reads_when_half_of_the_ring_is_new(self):
    self._begin()
    for n in range(20):
      self._push(n)
      self.recorder.on_train_batch_end(n)
    self.assertEqual(self.trainer.readings, 5)
    self._assert_recorded(*range(20))

  def test_counts_the_steps_of_each_epoch(self):
    self._begin()
    for epoch in range(3):
      self.recorder.on_epoch_begin(epoch)
      for step in range(6):
        self._push(6 * epoch + step)
        self.recorder.on_train_batch_end(step)
      self.recorder.on_epoch_end(epoch)
    self.assertEqual(self.trainer.readings, 6)
    self._assert_recorded(*range(18))

  def test_reads_in_time_where_workers_are_far_ahead(self):
    self._begin()
    # The coordinator hears of one step in four.
    for step in range(10):
      self._push(*range(4 * step, 4 * step + 4))
      self.clock.return_value += 1.0
      self.recorder.on_train_batch_end(step)
    self._assert_recorded(*range(40))

  def test_reads_no_more_often_than_the_pace_needs(self):
    self._begin()
    self._push(0)
    self.clock.return_value += 0.5
    self.recorder.on_train_batch_end(0)
    self.assertEqual(self.trainer.readings, 0)
    self._push(*range(1, 8))
    self.clock.return_value += 0.5
    self.recorder.on_train_batch_end(1)
    self.assertEqual(self.trainer.readings, 1)
    # 8 pushes per second: half of the ring is new after half a second.
    self.clock.return_value += 0.4
    self.recorder.on_train_batch_end(2)
    self.assertEqual(self.trainer.readings, 1)
    self.clock.return_value += 0.1
    self.recorder.on_train_batch_end(3)
    self.assertEqual(self.trainer.readings, 2)

  def test_leaves_out_what_came_before(self):
    self._push(*range(11))
    self._begin()
    self._push(11, 12)
    self.recorder.on_epoch_end(0)
    self._assert_recorded(11, 12)

  def test_goes_on_with_a_file_if_asked_to(self):
    self.recorder = callbacks.TraceRecorder(
      self.trainer, self.path, append=True
    )
    for number in range(2):
      self._begin()
      self._push(number)
      self.recorder.on_epoch_end(0)
    self._assert_recorded(0, 1)

  def test_does_not_add_to_what_a_crash_has_left_of_a_line(self):
    self._begin()
    self._push(0)
    self.recorder.on_epoch_end(0)
    with open(self.path, "a") as file:
      file.write("0,0.0")
    self.recorder = callbacks.TraceRecorder(
      self.trainer, self.path, append=True
    )
    self._begin()
    self._push(1)
    self.recorder.on_epoch_end(0)
    self._assert_recorded(0, 1)

  def test_another_fit_writes_anew(self):
    for numbers in (range(3), range(3, 6)):
      self._begin()
      self._push(*numbers)
      self.recorder.on_epoch_end(0)
    self._assert_recorded(*range(3, 6))

  def test_can_be_replayed_at_any_time(self):
    self._begin()
    self._push(*range(5))
    self.trainer.push(2, 0.0)
    self.recorder.on_train_batch_end(5)
    table = delays.Trace(self.path).table(3)
    np.testing.assert_array_equal(
      table[:, :2], [[1.0, 4.0], [2.0, 5.0], [3.0, 1e-6]]
    )


if __name__ == "__main__":
  absltest.main()
