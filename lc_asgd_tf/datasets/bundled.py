"""A table and a text that ship with scikit-learn and with Python."""

import numpy as np

from lc_asgd_tf.datasets import in_memory

# Of the text: length of the context, and how many contexts of each kind.
_CONTEXT = 16
_TRAIN_CONTEXTS = 32768
_TEST_CONTEXTS = 8192


def breast_cancer() -> in_memory.InMemoryClassification:
  """Returns scikit-learn's breast-cancer table: 30 features, 2 classes.

  Features are standardised by the training half. Every second row is a test
  row, so that the split depends on no random generator: 285 training and 284
  test rows.
  """
  from sklearn import datasets

  inputs, labels = datasets.load_breast_cancer(return_X_y=True)
  train, test = inputs[::2], inputs[1::2]
  mean, deviation = train.mean(axis=0), train.std(axis=0)
  return in_memory.InMemoryClassification(
    name="breast_cancer",
    train_inputs=((train - mean) / deviation).astype(np.float32),
    train_labels=labels[::2],
    test_inputs=((test - mean) / deviation).astype(np.float32),
    test_labels=labels[1::2],
    num_classes=2,
  )


def python_topics() -> in_memory.InMemoryClassification:
  """Returns the texts of Python's own `help()`: which character comes next?

  An input is 16 characters in a row, as numbers; the label is the one that
  follows. 0 stands for any character that is not among the 63 most frequent
  ones. The last fifth of the text is for testing; topics repeat each other, so
  that some of it is in the other four, too. The text depends on the
  version of Python.
  """
  from pydoc_data import topics

  text = "\n".join(topics.topics[name] for name in sorted(topics.topics))
  characters, numbers = np.unique(list(text), return_inverse=True)
  frequent = np.argsort(-np.bincount(numbers), kind="stable")[:63]
  code = np.zeros(len(characters), np.int32)
  code[frequent] = np.arange(1, 64)
  encoded = code[numbers]
  border = len(encoded) * 4 // 5
  rng = np.random.default_rng(0)

  def contexts(part, count):
    starts = rng.choice(len(part) - _CONTEXT, count, replace=False)
    inputs = part[starts[:, np.newaxis] + np.arange(_CONTEXT)]
    return inputs, part[starts + _CONTEXT]

  train_inputs, train_labels = contexts(encoded[:border], _TRAIN_CONTEXTS)
  test_inputs, test_labels = contexts(encoded[border:], _TEST_CONTEXTS)
  return in_memory.InMemoryClassification(
    name="python_topics",
    train_inputs=train_inputs,
    train_labels=train_labels,
    test_inputs=test_inputs,
    test_labels=test_labels,
    num_classes=64,
  )


BUNDLED = {"breast_cancer": breast_cancer, "python_topics": python_topics}
