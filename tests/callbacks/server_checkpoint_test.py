"""Tests for where checkpoints of the server lie, and which is restored."""

import os

import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf import callbacks, errors


class DirectoryTest(parameterized.TestCase):
  @parameterized.parameters("run[1]", "run*", "run?/checkpoints", "a\\b")
  def test_refuses_what_tensorflow_takes_for_a_pattern(self, directory):
    with self.assertRaisesRegex(errors.UserError, "for patterns"):
      callbacks.ServerCheckpoint(None, directory)

  def test_takes_other_names(self):
    callbacks.ServerCheckpoint(None, "my run/lr=0.1, ü (2)~")


class _Trainer:
  """Writes and restores one number."""

  def __init__(self):
    self.number = tf.Variable(0.0)
    self.checkpoint = tf.train.Checkpoint(number=self.number)

  def restore(self, path):
    if not os.path.exists(f"{path}.index"):
      raise tf.errors.NotFoundError(None, None, path)
    if os.path.getsize(f"{path}.index") == 0:
      raise errors.DamagedError(f"{path} is damaged")
    self.checkpoint.restore(path).assert_consumed()


class RestoreLatestTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.directory = self.create_tempdir().full_path
    self.trainer = _Trainer()
    self.callback = callbacks.ServerCheckpoint(
      self.trainer, self.directory, max_to_keep=3
    )
    for epoch in range(4):
      self.trainer.number.assign(epoch + 1.0)
      self.callback.on_epoch_end(epoch)
    self.trainer.number.assign(0.0)

  def _index(self, epochs):
    return os.path.join(self.directory, f"ckpt-{epochs}.index")

  @parameterized.parameters(((), 4), ((4,), 3), ((4, 3), 2), ((3,), 4))
  def test_takes_the_latest_that_can_be_read(self, damaged, expected):
    for epochs in damaged:
      os.truncate(self._index(epochs), 0)
    self.assertEqual(self.callback.restore_latest(), expected)
    self.assertEqual(self.trainer.number.numpy(), expected)
    self.assertEqual(self.callback.passed_over, 4 - expected)

  def test_saves_the_server_that_there_is(self):
    # A model that is compiled anew has another one.
    self.trainer.number = tf.Variable(7.0)
    self.trainer.checkpoint = tf.train.Checkpoint(number=self.trainer.number)
    self.callback.on_epoch_end(4)
    self.trainer.number.assign(0.0)
    self.assertEqual(self.callback.restore_latest(), 5)
    self.assertEqual(self.trainer.number.numpy(), 7.0)

  def test_says_that_all_are_damaged(self):
    for epochs in (2, 3, 4):
      os.truncate(self._index(epochs), 0)
    with self.assertRaisesRegex(errors.UserError, "ckpt-4 is damaged"):
      self.callback.restore_latest()

  def test_what_is_not_there_is_not_damaged(self):
    os.truncate(self._index(4), 0)
    os.remove(self._index(3))
    self.assertEqual(self.callback.restore_latest(), 2)
    self.assertEqual(self.callback.passed_over, 1)
    os.remove(self._index(2))
    os.remove(self._index(4))
    self.assertEqual(self.callback.restore_latest(), 0)
    self.assertEqual(self.callback.passed_over, 0)

  @parameterized.product(share=(0.0, 0.5, None), damaged=(False, True))
  def test_goes_by_the_numbers_where_the_list_is_damaged(self, share, damaged):
    # 10 is the latest, though not by the alphabet.
    for epoch in (8, 9):
      self.trainer.number.assign(epoch + 1.0)
      self.callback.on_epoch_end(epoch)
    if damaged:
      os.truncate(self._index(10), 0)
    path = os.path.join(self.directory, "checkpoint")
    if share is None:
      os.remove(path)
    else:
      os.truncate(path, int(share * os.path.getsize(path)))
    other = callbacks.ServerCheckpoint(self.trainer, self.directory)
    expected = 9 if damaged else 10
    self.assertEqual(other.restore_latest(), expected)
    self.assertEqual(self.trainer.number.numpy(), expected)
    self.assertEqual(other.passed_over, int(damaged))
    other.on_epoch_end(expected)
    self.assertEqual(other.restore_latest(), expected + 1)

  def test_an_empty_list_keeps_nobody_from_beginning_anew(self):
    directory = self.create_tempdir()
    directory.create_file("checkpoint")
    other = callbacks.ServerCheckpoint(self.trainer, directory.full_path)
    other.on_epoch_end(0)
    self.assertEqual(other.restore_latest(), 1)

  def test_without_any(self):
    other = callbacks.ServerCheckpoint(
      self.trainer, self.create_tempdir().full_path
    )
    self.assertEqual(other.restore_latest(), 0)


if __name__ == "__main__":
  absltest.main()
