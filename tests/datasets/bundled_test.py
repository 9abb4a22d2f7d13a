"""Tests for the data sets that ship with scikit-learn and with Python."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from sklearn import datasets as sklearn_datasets

from lc_asgd_tf import datasets, errors
from lc_asgd_tf.datasets import bundled, in_memory

_RARE = "\ufffd"  # Stands for any rare character.
_NUM_EXAMPLES = 23  # Prime: no batch size but 1 and 23 fits.


def _marked():
  """A tiny data set whose training labels are the examples' numbers."""
  marks = np.arange(_NUM_EXAMPLES, dtype=np.int32)
  inputs = np.stack([marks, -marks], axis=1).astype(np.float32)
  return in_memory.InMemoryClassification(
    name="marked",
    train_inputs=inputs,
    train_labels=marks,
    test_inputs=inputs[:7] + 100,
    test_labels=marks[:7],
    num_classes=_NUM_EXAMPLES,
  )


def _labels(batches, count):
  """The labels of the first batches, one after another."""
  return np.concatenate([labels for _, labels in batches.take(count)])


class LoadTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("table", "breast_cancer", 2, (30,), 285, 284, np.float32),
    ("text", "python_topics", 64, (16,), 32768, 8192, np.int32),
  )
  def test_describes_the_data_set(
    self, name, num_classes, input_shape, num_train, num_test, dtype
  ):
    dataset = datasets.load(name)
    self.assertIsInstance(dataset, datasets.InMemoryClassification)
    self.assertEqual(dataset.name, name)
    self.assertEqual(dataset.num_classes, num_classes)
    self.assertEqual(dataset.input_shape, input_shape)
    self.assertEqual(
      (dataset.num_train, dataset.num_test), (num_train, num_test)
    )
    for inputs, labels, number in (
      (dataset.train_inputs, dataset.train_labels, num_train),
      (dataset.test_inputs, dataset.test_labels, num_test),
    ):
      self.assertEqual(inputs.dtype, dtype)
      self.assertEqual(inputs.shape, (number, *input_shape))
      self.assertEqual(labels.shape, (number,))
      self.assertTrue(np.all((labels >= 0) & (labels < num_classes)))

  def test_knows_every_bundled_name(self):
    self.assertEqual(
      sorted(bundled.BUNDLED), ["breast_cancer", "python_topics"]
    )

  @parameterized.parameters(*bundled.BUNDLED)
  def test_loads_the_same_every_time(self, name):
    one, other = datasets.load(name), datasets.load(name)
    for part in ("train_inputs", "train_labels", "test_inputs", "test_labels"):
      np.testing.assert_array_equal(getattr(one, part), getattr(other, part))

  @parameterized.product(
    name=tuple(bundled.BUNDLED),
    split=({"train_split": "train[:50%]"}, {"test_split": "train"}),
  )
  def test_refuses_other_splits(self, name, split):
    with self.assertRaisesRegex(errors.UserError, f"'{name}' has the splits"):
      datasets.load(name, **split)

  def test_takes_its_own_splits(self):
    dataset = datasets.load(
      "breast_cancer", train_split="train", test_split="test"
    )
    self.assertEqual(dataset.num_train, 285)

  def test_suggests_bundled_names(self):
    with self.assertRaisesRegex(errors.UserError, "did you mean 'breast_canc"):
      datasets.load("brest_cancer")


class BreastCancerTest(absltest.TestCase):
  def test_every_second_row_is_a_test_row(self):
    _, labels = sklearn_datasets.load_breast_cancer(return_X_y=True)
    dataset = datasets.load("breast_cancer")
    np.testing.assert_array_equal(dataset.train_labels, labels[0::2])
    np.testing.assert_array_equal(dataset.test_labels, labels[1::2])

  def test_training_features_have_mean_0_and_deviation_1(self):
    inputs = datasets.load("breast_cancer").train_inputs.astype(np.float64)
    np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(inputs.std(axis=0), 1, rtol=1e-6)

  def test_test_rows_are_measured_in_units_of_the_training_rows(self):
    inputs, _ = sklearn_datasets.load_breast_cancer(return_X_y=True)
    dataset = datasets.load("breast_cancer")
    # What standardisation keeps: ratios of differences within a feature.
    first, second, tested = inputs[0], inputs[2], inputs[1]
    expected = (tested - first) / (second - first)
    first, second = dataset.train_inputs[:2].astype(np.float64)
    actual = (dataset.test_inputs[0] - first) / (second - first)
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


class PythonTopicsTest(absltest.TestCase):
  """Its text depends on the version of Python: only properties are tested."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    from pydoc_data import topics

    cls.dataset = datasets.load("python_topics")
    cls.text = "\n".join(topics.topics[name] for name in sorted(topics.topics))
    characters, counts = np.unique(list(cls.text), return_counts=True)
    cls.counts = dict(zip(characters.tolist(), counts.tolist(), strict=True))

  def _alphabet(self):
    """Returns the character of each number.

    1 is the most frequent character, and so on; 0 is all others. Characters
    that occur equally often are in the order of their code points.
    """
    order = sorted(self.counts, key=lambda c: (-self.counts[c], c))
    return [_RARE, *order[:63]]

  def _windows(self, text):
    """Returns all strings of 17 characters in a row."""
    frequent = set(self._alphabet())
    text = "".join(c if c in frequent else _RARE for c in text)
    return {text[i : i + 17] for i in range(len(text) - 16)}

  def _strings(self, part):
    """Returns each context and the character that follows it, as a string."""
    inputs = getattr(self.dataset, f"{part}_inputs")
    labels = getattr(self.dataset, f"{part}_labels")
    rows = np.concatenate([inputs, labels[:, np.newaxis]], axis=1)
    return ["".join(row) for row in np.array(self._alphabet())[rows]]

  def test_contexts_and_their_next_characters_are_in_the_text(self):
    border = len(self.text) * 4 // 5
    for part, text in (
      ("train", self.text[:border]),
      ("test", self.text[border:]),
    ):
      missing = set(self._strings(part)) - self._windows(text)
      self.assertEmpty(sorted(missing)[:3])

  def test_rare_characters_are_0(self):
    alphabet = self._alphabet()
    rare = max(n for c, n in self.counts.items() if c not in alphabet)
    self.assertLessEqual(rare, self.counts[alphabet[-1]])
    # All of the alphabet occurs, and the rare ones, too.
    self.assertLen(np.unique(self.dataset.train_inputs), 64)

  def test_contexts_are_drawn_from_all_over_the_text(self):
    strings = self._strings("train")
    # Few repeat: no place is drawn twice, though the text repeats itself.
    self.assertGreater(len(set(strings)), 0.9 * len(strings))
    border = len(self.text) * 4 // 5
    for tenth in range(10):
      first, last = border * tenth // 10, border * (tenth + 1) // 10
      windows = self._windows(self.text[first:last])
      share = np.mean([string in windows for string in strings])
      self.assertGreater(share, 0.08)


class TrainTest(parameterized.TestCase):
  @parameterized.parameters(
    ("breast_cancer", (30,), tf.float32), ("python_topics", (16,), tf.int32)
  )
  def test_batches_are_inputs_and_integer_labels(self, name, shape, dtype):
    batches = datasets.load(name).train(32, seed=0)
    inputs, labels = batches.element_spec
    self.assertEqual(inputs, tf.TensorSpec((32, *shape), dtype))
    self.assertEqual(labels, tf.TensorSpec((32,), tf.int64))
    self.assertEqual(batches.cardinality(), tf.data.INFINITE_CARDINALITY)
    first = next(iter(batches))
    self.assertEqual(first[0].shape, (32, *shape))

  def test_labels_stay_with_their_inputs(self):
    for inputs, labels in _marked().train(5, seed=0).take(20):
      np.testing.assert_array_equal(inputs, np.stack([labels, -labels], axis=1))

  @parameterized.parameters(1, 5, 22, 23, 24, 50)
  def test_every_epoch_holds_every_example_once(self, batch_size):
    """Batches cross epochs; no example is dropped."""
    epochs = 6
    count = -(-epochs * _NUM_EXAMPLES // batch_size)
    labels = _labels(_marked().train(batch_size, seed=0), count)
    orders = labels[: epochs * _NUM_EXAMPLES].reshape(epochs, _NUM_EXAMPLES)
    for order in orders:
      np.testing.assert_array_equal(np.sort(order), np.arange(_NUM_EXAMPLES))
    self.assertLen({tuple(order) for order in orders}, epochs)

  def test_batch_size_does_not_change_the_order(self):
    one, other = (
      _labels(_marked().train(size, seed=4), 60 // size) for size in (4, 30)
    )
    np.testing.assert_array_equal(one, other)

  def test_refuses_to_augment(self):
    with self.assertRaisesRegex(errors.UserError, "'marked' has no images"):
      _marked().train(4, seed=0, augment=True)


class OrderTest(absltest.TestCase):
  def _order(self, seed=0, worker=0):
    batches = _marked().train(_NUM_EXAMPLES, seed=seed, worker=worker)
    return _labels(batches, 2).tolist()

  def test_is_determined_by_seed_and_worker(self):
    order = self._order(seed=1, worker=2)
    self.assertEqual(self._order(seed=1, worker=2), order)
    self.assertNotEqual(self._order(seed=1, worker=3), order)
    self.assertNotEqual(self._order(seed=2, worker=2), order)
    self.assertNotEqual(self._order(seed=2, worker=1), order)

  def test_is_the_same_in_every_pass(self):
    batches = _marked().train(_NUM_EXAMPLES, seed=0).take(2)
    orders = [[labels.numpy().tolist() for _, labels in batches] for _ in "ab"]
    self.assertEqual(orders[0], orders[1])

  def test_does_not_depend_on_the_global_seed(self):
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

  def test_worker_may_be_a_tensor_in_a_traced_function(self):
    marked = _marked()
    traces = []

    # As on a cluster, AutoGraph and all.
    @tf.function(input_signature=[tf.TensorSpec((), tf.int64)])
    def first_labels(worker):
      traces.append(worker)
      batches = marked.train(_NUM_EXAMPLES, seed=5, worker=worker)
      return next(iter(batches))[1]

    for worker in range(3):
      self.assertEqual(
        first_labels(worker).numpy().tolist(),
        self._order(seed=5, worker=worker)[:_NUM_EXAMPLES],
      )
    self.assertLen(traces, 1)


class TestTest(parameterized.TestCase):
  @parameterized.parameters((3, [3, 3, 1]), (7, [7]), (100, [7]))
  def test_all_examples_once_in_order(self, batch_size, sizes):
    marked = _marked()
    batches = marked.test(batch_size)
    for _ in range(2):
      self.assertEqual([len(labels) for _, labels in batches], sizes)
      inputs = np.concatenate([inputs for inputs, _ in batches])
      np.testing.assert_array_equal(inputs, marked.test_inputs)
      np.testing.assert_array_equal(_labels(batches, len(sizes)), np.arange(7))

  @parameterized.parameters(
    ("breast_cancer", (30,), tf.float32), ("python_topics", (16,), tf.int32)
  )
  def test_batches_are_inputs_and_integer_labels(self, name, shape, dtype):
    inputs, labels = datasets.load(name).test(64).element_spec
    self.assertEqual(inputs, tf.TensorSpec((None, *shape), dtype))
    self.assertEqual(labels, tf.TensorSpec((None,), tf.int64))


if __name__ == "__main__":
  absltest.main()
