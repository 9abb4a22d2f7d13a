"""Tests for input pipelines over any image-classification data set."""

import contextlib
import io
import os
import socket
import tempfile
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging
from absl.testing import absltest, parameterized

from lc_asgd_tf import datasets, errors
from lc_asgd_tf.datasets import augmentation, image_classification

_NUM_TRAIN = 1437  # Of the digits.
_THIRD = 479  # Three batches of a third are one epoch.

_NUM_MARKED = 40
_NUM_SHARDS = 2  # Of 20 examples each; TFDS interleaves blocks of 16.


def _store(data_dir, name, features, splits, num_shards=None):
  """Prepares a data set that TFDS has no code for."""
  with contextlib.redirect_stdout(io.StringIO()):
    tfds.dataset_builders.store_as_tfds_dataset(
      name=name,
      version="1.0.0",
      features=tfds.features.FeaturesDict(features),
      split_datasets={
        split: tf.data.Dataset.from_tensor_slices(examples)
        for split, examples in splits.items()
      },
      data_dir=data_dir,
      download_config=tfds.download.DownloadConfig(num_shards=num_shards),
    )


def _store_marked(data_dir):
  """Stores 40 tiny images, each with a label of its own, in two files."""
  marks = np.arange(_NUM_MARKED)
  images = np.broadcast_to(marks[:, None, None, None], (_NUM_MARKED, 2, 2, 1))
  examples = {
    "image": images.astype(np.uint16) * 1000,
    "label": marks,
    "comment": [f"number {mark}" for mark in marks],
    "box": {"left": marks, "right": marks + 1},
  }
  features = {
    "image": tfds.features.Image(shape=(2, 2, 1), dtype=np.uint16),
    "label": tfds.features.ClassLabel(num_classes=_NUM_MARKED),
    "comment": tfds.features.Text(),
    "box": {"left": np.int64, "right": np.int64},
  }
  splits = {"train": examples, "validation": examples}
  _store(data_dir, "marked", features, splits, num_shards=_NUM_SHARDS)


def setUpModule():
  global _directory, _data_dir
  tfds.disable_progress_bar()
  _directory = tempfile.TemporaryDirectory()
  _data_dir = _directory.name
  datasets.load("digits", data_dir=_data_dir)
  _store_marked(_data_dir)


def tearDownModule():
  _directory.cleanup()


def _load(name="digits", **kwargs):
  return datasets.load(name, data_dir=_data_dir, **kwargs)


def _labels(batches, count):
  """The labels of the first batches, one after another."""
  return np.concatenate([labels for _, labels in batches.take(count)])


def _sorted_bytes(images):
  return sorted(image.tobytes() for image in images)


class LoadTest(absltest.TestCase):
  def test_describes_the_data_set(self):
    digits = _load()
    self.assertEqual(digits.name, "digits")
    self.assertEqual(digits.image_shape, (8, 8, 1))
    self.assertEqual(digits.num_classes, 10)
    self.assertEqual(digits.num_train, _NUM_TRAIN)
    self.assertEqual(digits.num_test, 360)
    self.assertEqual((digits.train_split, digits.test_split), ("train", "test"))

  def test_an_empty_split_is_the_default(self):
    digits = _load(train_split="", test_split="")
    self.assertEqual((digits.train_split, digits.test_split), ("train", "test"))

  def test_finds_prepared_data_without_code_and_without_network(self):
    with mock.patch.object(socket, "getaddrinfo", side_effect=OSError):
      marked = _load("marked", download=False)
    self.assertEqual(marked.num_train, _NUM_MARKED)
    self.assertEqual(marked.num_classes, _NUM_MARKED)

  def test_tests_on_validation_where_there_is_no_test_split(self):
    self.assertEqual(_load("marked").test_split, "validation")

  def test_takes_parts_of_splits(self):
    part = _load("marked", train_split="train[:75%]", test_split="train[75%:]")
    self.assertEqual((part.num_train, part.num_test), (30, 10))
    trained = set(_labels(part.train(10, seed=0), 3))
    tested = set(_labels(part.test(10), 1))
    self.assertLen(trained, 30)
    self.assertLen(tested, 10)
    self.assertEmpty(trained & tested)

  def test_expands_the_home_directory(self):
    with mock.patch.dict(os.environ, {"HOME": _data_dir}):
      digits = datasets.load("digits", data_dir="~", download=False)
    self.assertEqual(digits.num_train, _NUM_TRAIN)

  def test_prepares_silently(self):
    self.addCleanup(logging.set_verbosity, logging.get_verbosity())
    logging.set_verbosity(logging.WARNING)  # `absltest.main` shows more.
    with (
      tempfile.TemporaryDirectory() as data_dir,
      contextlib.redirect_stdout(io.StringIO()) as output,
      contextlib.redirect_stderr(io.StringIO()) as log,
    ):
      datasets.load("digits", data_dir=data_dir)
    self.assertEmpty(output.getvalue())
    self.assertEmpty(log.getvalue())


class LoadErrorsTest(parameterized.TestCase):
  def _assert_error(self, regex, name, data_dir=None, **kwargs):
    with self.assertRaisesRegex(errors.UserError, regex) as raised:
      datasets.load(name, data_dir=data_dir or _data_dir, **kwargs)
    self.assertNotIn("\n", str(raised.exception))

  @parameterized.named_parameters(
    ("registered", "digit", "not known to .* did you mean .*'digits'"),
    ("prepared", "markd", "not prepared in .* did you mean 'marked'"),
    ("malformed", "no such name!", "'no such name!' cannot be loaded"),
    ("version", "digits:7.0.0", "'digits:7.0.0' cannot be loaded: .*7.0.0"),
  )
  def test_unknown_name(self, name, regex):
    self._assert_error(regex, name)

  def test_suggests_nothing_where_nothing_is_close(self):
    self._assert_error(r"prepared in \S+$", "qqqqqq")

  @parameterized.named_parameters(
    ("misspelt", "trian", "no split 'trian'; it has train, test"),
    ("malformed", "train[a]", "no split 'train.a.'; it has train, test"),
    ("empty", "train[:0]", "split 'train.:0.' of data set 'digits' is empty"),
  )
  def test_bad_split(self, split, regex):
    self._assert_error(regex, "digits", train_split=split)
    self._assert_error(regex, "digits", test_split=split)

  @parameterized.parameters(
    ("train", "train[80%:]", 287),
    ("train[:80%]", "train[70%:]", 144),
    ("train+test", "test", 360),
    ("train+test[:3]", "train[:100]+test[2:]", 101),
  )
  def test_splits_with_examples_in_common(self, train, test, shared):
    self._assert_error(
      f"have {shared} examples in common",
      "digits",
      train_split=train,
      test_split=test,
    )

  def test_no_test_split(self):
    data_dir = self.enter_context(tempfile.TemporaryDirectory())
    features = {
      "image": tfds.features.Image(shape=(2, 2, 1)),
      "label": tfds.features.ClassLabel(num_classes=2),
    }
    examples = {"image": np.zeros((4, 2, 2, 1), np.uint8), "label": [0] * 4}
    _store(data_dir, "untested", features, {"train": examples})
    self._assert_error(
      "no test split, only train: name parts", "untested", data_dir
    )

  def test_no_image_and_label(self):
    # Known from TFDS's code, so neither of these is downloaded first.
    self._assert_error("not for image classification", "imdb_reviews")
    self._assert_error("not for image classification", "coco")

  def test_images_of_varying_size(self):
    self._assert_error(
      r"varying size, shape \(None, None, 3\)", "imagenette/160px-v2"
    )

  def test_not_prepared_and_download_off(self):
    data_dir = self.enter_context(tempfile.TemporaryDirectory())
    self._assert_error(
      f"'digits' is not prepared in {data_dir}, and downloading is off",
      "digits",
      data_dir,
      download=False,
    )

  def test_no_network(self):
    with (
      mock.patch.object(socket, "getaddrinfo", side_effect=OSError),
      mock.patch("urllib.request.getproxies", return_value={}),
    ):
      self._assert_error(
        "not prepared in .* no network to download it from storage.google",
        "mnist",
      )

  def test_preparation_fails(self):
    file = self.enter_context(tempfile.NamedTemporaryFile())
    self._assert_error(
      "'digits' could not be prepared in .*: NotADirectoryError",
      "digits",
      file.name,
    )

  def test_incomplete_directory(self):
    data_dir = self.enter_context(tempfile.TemporaryDirectory())
    os.makedirs(os.path.join(data_dir, "digits", "1.0.0"))
    self._assert_error("incomplete; remove that dir", "digits", data_dir)


class TrainTest(parameterized.TestCase):
  def test_batches_are_float_images_and_integer_labels(self):
    batches = _load().train(32, seed=0)
    images, labels = batches.element_spec
    self.assertEqual(images, tf.TensorSpec((32, 8, 8, 1), tf.float32))
    self.assertEqual(labels, tf.TensorSpec((32,), tf.int64))
    self.assertEqual(batches.cardinality(), tf.data.INFINITE_CARDINALITY)

  def test_images_are_scaled_to_0_to_1(self):
    images, _ = next(iter(_load().train(_THIRD, seed=0)))
    self.assertEqual((images.numpy().min(), images.numpy().max()), (0.0, 1.0))

  def test_16_bit_images_are_scaled_by_their_own_range(self):
    images, labels = next(iter(_load("marked").train(_NUM_MARKED, seed=0)))
    np.testing.assert_allclose(images[:, 0, 0, 0], labels * 1000 / 65535)

  def test_every_epoch_holds_every_example_once_in_a_new_order(self):
    batches = list(_load().train(_THIRD, seed=0).take(6))
    images = np.concatenate([images for images, _ in batches])
    first, second = images[:_NUM_TRAIN], images[_NUM_TRAIN:]
    expected = tfds.as_numpy(
      tfds.load("digits", split="train", data_dir=_data_dir, batch_size=-1)
    )["image"].astype(np.float32)
    self.assertEqual(
      _sorted_bytes(np.rint(first * 255)), _sorted_bytes(expected)
    )
    self.assertEqual(_sorted_bytes(first), _sorted_bytes(second))
    self.assertLess(np.mean(np.all(first == second, axis=(1, 2, 3))), 0.05)

  def test_batches_cross_epochs(self):
    labels = _labels(_load("marked").train(25, seed=0), 8)  # Five epochs.
    np.testing.assert_array_equal(np.bincount(labels), [5] * _NUM_MARKED)
    np.testing.assert_array_equal(np.sort(labels[:40]), np.arange(40))

  def test_a_batch_may_be_larger_than_the_data_set(self):
    labels = _labels(_load("marked").train(100, seed=0), 1)
    self.assertLen(labels, 100)


class OrderTest(parameterized.TestCase):
  """The order of the training examples, whether they fit in memory or not."""

  def setUp(self):
    super().setUp()
    self.marked = _load("marked")

  def _order(self, seed=0, worker=0, num_epochs=2):
    batches = self.marked.train(_NUM_MARKED, seed=seed, worker=worker)
    return _labels(batches, num_epochs).tolist()

  def _limit_memory(self, num_images):
    # An image is 2x2 pixels of 16 bits.
    self.enter_context(
      mock.patch.object(image_classification, "_MEMORY_BYTES", num_images * 8)
    )

  @parameterized.named_parameters(("in_memory", 1000), ("streamed", 15))
  def test_is_determined_by_seed_and_worker(self, num_images):
    self._limit_memory(num_images)
    order = self._order(seed=1, worker=2)
    self.assertEqual(self._order(seed=1, worker=2), order)
    self.assertNotEqual(self._order(seed=1, worker=3), order)
    self.assertNotEqual(self._order(seed=2, worker=2), order)
    self.assertNotEqual(self._order(seed=2, worker=1), order)

  @parameterized.named_parameters(("in_memory", 1000), ("streamed", 15))
  def test_does_not_depend_on_the_global_seed(self, num_images):
    self._limit_memory(num_images)
    order = self._order()
    for global_seed in (0, 1, 2):
      keras.utils.set_random_seed(global_seed)
      self.assertEqual(self._order(), order)

  def test_leaves_the_global_seed_alone(self):
    keras.utils.set_random_seed(3)
    expected = tf.random.uniform(())
    keras.utils.set_random_seed(3)
    self._order()
    self.assertEqual(tf.random.uniform(()), expected)

  @parameterized.named_parameters(("in_memory", 1000), ("streamed", 15))
  def test_epochs_are_complete_and_differ(self, num_images):
    self._limit_memory(num_images)
    epochs = np.reshape(self._order(num_epochs=3), (3, _NUM_MARKED))
    for epoch in epochs:
      np.testing.assert_array_equal(np.sort(epoch), np.arange(_NUM_MARKED))
    self.assertLen({tuple(epoch) for epoch in epochs}, 3)

  @parameterized.named_parameters(("in_memory", 1000), ("streamed", 15))
  def test_worker_may_be_a_tensor_in_a_traced_function(self, num_images):
    self._limit_memory(num_images)
    traces = []

    @tf.function(input_signature=[tf.TensorSpec((), tf.int64)])
    def first_labels(worker):
      traces.append(worker)
      batches = self.marked.train(_NUM_MARKED, seed=5, worker=worker)
      return next(iter(batches))[1]

    for worker in range(3):
      self.assertEqual(
        first_labels(worker).numpy().tolist(),
        self._order(seed=5, worker=worker, num_epochs=1),
      )
    self.assertLen(traces, 1)

  def test_files_are_shuffled_where_the_buffer_is_small(self):
    self._limit_memory(1)  # Hence nothing but the order of the files changes.
    first_of_epochs = self._order(num_epochs=8)[::_NUM_MARKED]
    self.assertGreater(len(set(first_of_epochs)), 1)

  def test_is_read_from_disk_once_if_it_fits_in_memory(self):
    with tempfile.TemporaryDirectory() as data_dir:
      _store_marked(data_dir)
      marked = datasets.load("marked", data_dir=data_dir)
      batches = iter(marked.train(_NUM_MARKED, seed=0))
      next(batches)
    for _ in range(5):
      next(batches)


class TestTest(parameterized.TestCase):
  def test_all_examples_once_in_the_order_of_the_files(self):
    marked = _load("marked")
    in_order = tfds.load(
      "marked",
      split="validation",
      data_dir=_data_dir,
      read_config=tfds.ReadConfig(interleave_cycle_length=1),
    )
    expected = [int(example["label"]) for example in in_order]
    batches = marked.test(16)
    self.assertEqual([len(labels) for _, labels in batches], [16, 16, 8])
    np.testing.assert_array_equal(_labels(batches, 3), expected)
    np.testing.assert_array_equal(_labels(batches, 3), expected)

  def test_batches_are_float_images_and_integer_labels(self):
    images, labels = next(iter(_load().test(360)))
    self.assertEqual((images.dtype, labels.dtype), (tf.float32, tf.int64))
    self.assertEqual(images.shape, (360, 8, 8, 1))
    self.assertEqual((images.numpy().min(), images.numpy().max()), (0.0, 1.0))


class AugmentationTest(absltest.TestCase):
  def test_shifts_by_up_to_an_eighth_and_flips(self):
    image = np.arange(1, 129, dtype=np.uint8).reshape(8, 8, 2)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    possible = {
      padded[y : y + 8, x : x + 8][:, ::direction].tobytes()
      for y in range(3)
      for x in range(3)
      for direction in (1, -1)
    }
    results = set()
    for seed in range(200):
      result = augmentation.pad_crop_flip(tf.constant(image), [seed, 0])
      self.assertEqual((result.dtype, result.shape), (tf.uint8, (8, 8, 2)))
      results.add(result.numpy().tobytes())
    self.assertEqual(results, possible)

  def test_changes_images_but_neither_order_nor_labels(self):
    digits = _load()
    plain = next(iter(digits.train(100, seed=0)))
    changed = next(iter(digits.train(100, seed=0, augment=True)))
    np.testing.assert_array_equal(plain[1], changed[1])
    same = np.all(plain[0].numpy() == changed[0].numpy(), axis=(1, 2, 3))
    self.assertLess(np.mean(same), 0.25)  # One in 18 is left as it is.

  def test_is_determined_by_seed_and_worker(self):
    digits = _load()

    def images(worker):
      batches = digits.train(_THIRD, seed=3, worker=worker, augment=True)
      return np.concatenate([images for images, _ in batches.take(6)])

    first = images(worker=0)
    np.testing.assert_array_equal(first, images(worker=0))
    self.assertNotEqual(first.tobytes(), images(worker=1).tobytes())
    # The second epoch changes the images anew.
    self.assertNotEqual(
      _sorted_bytes(first[:_NUM_TRAIN]), _sorted_bytes(first[_NUM_TRAIN:])
    )


if __name__ == "__main__":
  absltest.main()
