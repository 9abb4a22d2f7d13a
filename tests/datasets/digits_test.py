"""Tests for the bundled digits as a TFDS data set."""

import contextlib
import io
import pathlib
import tempfile
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from absl.testing import absltest
from sklearn import datasets as sklearn_datasets

from lc_asgd_tf import datasets
from lc_asgd_tf.datasets import preparation


def _load(data_dir, split):
  """All images and labels of a split, in file order."""
  examples = tfds.as_numpy(
    tfds.load("digits", split=split, data_dir=data_dir, batch_size=-1)
  )
  return examples["image"], examples["label"]


def _rows(images):
  """The images as a sorted list, to compare as a multiset."""
  return sorted(image.tobytes() for image in images)


class DigitsTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    directory = tempfile.TemporaryDirectory()
    cls.addClassCleanup(directory.cleanup)
    cls.data_dir = directory.name
    cls.train_images, cls.train_labels = _load(cls.data_dir, "train")
    cls.test_images, cls.test_labels = _load(cls.data_dir, "test")

  def test_has_the_documented_shapes_and_dtypes(self):
    self.assertEqual(self.train_images.shape, (1437, 8, 8, 1))
    self.assertEqual(self.test_images.shape, (360, 8, 8, 1))
    self.assertEqual(self.train_images.dtype, np.uint8)
    self.assertEqual(self.train_labels.shape, (1437,))
    self.assertEqual(self.train_labels.dtype, np.int64)

  def test_shades_0_to_16_become_0_to_255(self):
    # round(v * 255 / 16) for v = 0..16, by hand.
    expected = [0, 16, 32, 48, 64, 80, 96, 112, 128]
    expected += [143, 159, 175, 191, 207, 223, 239, 255]
    np.testing.assert_array_equal(np.unique(self.train_images), expected)

  def test_splits_part_the_data_of_scikit_learn(self):
    shades = sklearn_datasets.load_digits().images.astype(int)
    images = np.concatenate([self.train_images, self.test_images])
    restored = np.rint(images[..., 0] / 255 * 16).astype(int)
    self.assertEqual(_rows(restored), _rows(shades))

  def test_images_keep_their_labels(self):
    digits = sklearn_datasets.load_digits()
    label_of = {
      image.astype(int).tobytes(): label
      for image, label in zip(digits.images, digits.target, strict=True)
    }
    restored = np.rint(self.test_images[..., 0] / 255 * 16).astype(int)
    labels = [label_of[image.tobytes()] for image in restored]
    np.testing.assert_array_equal(labels, self.test_labels)

  def test_a_fifth_of_each_digit_is_for_testing(self):
    # Of 178, 182, 177, 183, 181, 182, 181, 179, 174 and 180 scans.
    np.testing.assert_array_equal(
      np.bincount(self.test_labels), [36, 36, 36, 36, 37, 36, 36, 36, 35, 36]
    )
    np.testing.assert_array_equal(
      np.bincount(self.train_labels),
      [142, 146, 141, 147, 144, 146, 145, 143, 139, 144],
    )

  def test_the_split_is_the_same_when_prepared_again(self):
    with tempfile.TemporaryDirectory() as data_dir:
      images, labels = _load(data_dir, "test")
    np.testing.assert_array_equal(images, self.test_images)
    np.testing.assert_array_equal(labels, self.test_labels)

  def test_is_registered_with_tfds(self):
    self.assertIs(tfds.builder_cls("digits"), datasets.Digits)

  def test_is_prepared_silently(self):
    self.addCleanup(logging.set_verbosity, logging.get_verbosity())
    logging.set_verbosity(logging.WARNING)  # `absltest.main` shows more.
    with (
      tempfile.TemporaryDirectory() as data_dir,
      contextlib.redirect_stdout(io.StringIO()) as output,
      contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
      datasets.Digits(data_dir=data_dir).download_and_prepare()
    self.assertEmpty(output.getvalue())
    self.assertEmpty(errors.getvalue())


class FirstWriterWinsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.data_dir = self.enter_context(tempfile.TemporaryDirectory())

  def _assert_usable(self, builder):
    self.assertEqual(builder.info.splits["test"].num_examples, 360)
    self.assertLen(list(builder.as_dataset(split="test")), 360)

  def test_loses_the_race_at_the_very_end(self):
    loser = datasets.Digits(data_dir=self.data_dir)
    generate = loser._split_generators

    def let_another_process_finish(dl_manager):
      datasets.Digits(data_dir=self.data_dir).download_and_prepare()
      return generate(dl_manager)

    with mock.patch.object(
      loser, "_split_generators", let_another_process_finish
    ):
      loser.download_and_prepare()
    self._assert_usable(loser)
    versions = pathlib.Path(self.data_dir, "digits").iterdir()
    self.assertEqual([version.name for version in versions], ["1.0.0"])

  def test_loses_the_race_before_it_starts(self):
    loser = datasets.Digits(data_dir=self.data_dir)
    datasets.Digits(data_dir=self.data_dir).download_and_prepare()
    loser.download_and_prepare()
    self._assert_usable(loser)

  def test_reports_a_failure_that_nobody_made_good(self):
    builder = datasets.Digits(data_dir=self.data_dir)
    with self.assertRaisesRegex(OSError, "disk full"):
      with preparation.first_writer_wins(builder):
        raise OSError("disk full")


if __name__ == "__main__":
  absltest.main()
