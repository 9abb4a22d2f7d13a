"""Tests for what is left of dispatches."""

import keras
import tensorflow as tf
from absl.testing import absltest

from lc_asgd_tf.parameter_server import dispatches


class DispatchesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.pushes = keras.Variable([0, 0, 0], dtype="int64", trainable=False)
    self.dispatches = dispatches.Dispatches(self.pushes)

  def begin(self, dispatch, worker, steps=10):
    """Returns how many steps are left."""
    arguments = tf.constant([dispatch, steps, worker], tf.int64)
    return steps - int(self.dispatches.begin(*tf.unstack(arguments)))

  def push(self, worker, times):
    self.pushes.assign(self.pushes + times * keras.ops.one_hot(worker, 3))

  def test_a_new_one_is_left_as_a_whole(self):
    self.assertEqual(self.begin(0, worker=0), 10)
    self.push(0, 10)
    self.assertEqual(self.begin(1, worker=0), 10)

  def test_another_worker_does_the_rest(self):
    self.begin(0, worker=0)
    self.begin(1, worker=1)
    self.push(0, 4)
    self.push(1, 5)
    self.assertEqual(self.begin(0, worker=2), 6)
    self.push(2, 1)
    self.push(1, 5)
    self.assertEqual(self.begin(0, worker=1), 5)

  def test_the_same_worker_does_the_rest(self):
    self.begin(0, worker=0)
    self.push(0, 4)
    self.assertEqual(self.begin(0, worker=0), 6)
    self.push(0, 6)
    self.assertEqual(self.begin(0, worker=0), 0)

  def test_the_worker_may_be_back_before(self):
    self.begin(0, worker=0)
    self.push(0, 4)
    self.assertEqual(self.begin(1, worker=0), 10)
    self.push(0, 3)
    self.assertEqual(self.begin(0, worker=1), 6)
    self.assertEqual(self.begin(1, worker=2), 7)

  def test_nothing_is_left_of_what_is_cancelled(self):
    self.dispatches.cancel(2)
    self.assertEqual(self.begin(1, worker=0), 0)
    self.assertEqual(self.begin(2, worker=0), 10)

  def test_more_pushes_than_steps_leave_nothing(self):
    self.begin(0, worker=0, steps=1)
    self.push(0, 2)
    self.assertEqual(self.begin(0, worker=1, steps=1), 0)

  def test_rows_are_used_again(self):
    capacity = self.dispatches.capacity
    self.begin(0, worker=0)
    self.push(0, 10)
    self.begin(1, worker=1)
    self.push(1, 4)
    self.assertEqual(self.begin(capacity, worker=0), 10)
    self.push(0, 2)
    self.assertEqual(self.begin(capacity, worker=2), 8)
    self.assertEqual(self.begin(1, worker=0), 6)


if __name__ == "__main__":
  absltest.main()
