"""Classification data sets that live in memory: tables and text."""

import dataclasses

import numpy as np
import tensorflow as tf

from lc_asgd_tf import errors


@dataclasses.dataclass(frozen=True, eq=False)
class InMemoryClassification:
  """Arrays of inputs, each with one label.

  It has the attributes and methods of `ImageClassification` that training
  needs: batches are pairs of inputs, shape `(batch_size, *input_shape)` in the
  dtype of the arrays, and labels, int64 of shape `(batch_size,)`.

  Attributes:
    name: as given to `load`.
    train_inputs: shape `(num_train, *input_shape)`.
    train_labels: shape `(num_train,)`, in `[0, num_classes)`.
    test_inputs: shape `(num_test, *input_shape)`.
    test_labels: shape `(num_test,)`.
    num_classes: number of classes.
  """

  name: str
  train_inputs: np.ndarray = dataclasses.field(repr=False)
  train_labels: np.ndarray = dataclasses.field(repr=False)
  test_inputs: np.ndarray = dataclasses.field(repr=False)
  test_labels: np.ndarray = dataclasses.field(repr=False)
  num_classes: int

  @property
  def input_shape(self) -> tuple[int, ...]:
    """The shape of one input."""
    return tuple(self.train_inputs.shape[1:])

  @property
  def num_train(self) -> int:
    """Number of training examples."""
    return len(self.train_labels)

  @property
  def num_test(self) -> int:
    """Number of test examples."""
    return len(self.test_labels)

  def train(
    self,
    batch_size: int,
    *,
    seed: int | tf.Tensor,
    worker: int | tf.Tensor = 0,
    augment: bool = False,
  ) -> tf.data.Dataset:
    """Batches of shuffled training examples, forever.

    Every epoch holds each example once, in an order determined by `seed`,
    `worker` and the number of the epoch alone. Batches cross from one epoch
    into the next.

    Args:
      batch_size: number of examples in a batch, at least 1.
      seed: any integer, or a scalar tensor of one.
      worker: index of the worker that reads, an integer or a scalar tensor.
      augment: must be False; there is nothing to shift and flip.

    Returns:
      An infinite data set of batches with static shapes.

    Raises:
      UserError: if `augment` is True.
    """
    if augment:
      raise errors.UserError(f"data set {self.name!r} has no images to augment")
    inputs = tf.constant(self.train_inputs)
    labels = tf.constant(self.train_labels, tf.int64)
    root = tf.stack([tf.cast(seed, tf.int64), tf.cast(worker, tf.int64)])

    def epoch(number):
      order = tf.random.experimental.stateless_shuffle(
        tf.range(self.num_train), tf.random.fold_in(root, number)
      )
      return tf.data.Dataset.from_tensor_slices(order)

    # Whole batches are gathered at once, which is cheaper than examples.
    return (
      tf.data.Dataset.counter()
      .flat_map(epoch)
      .batch(batch_size, drop_remainder=True)
      .map(lambda order: (tf.gather(inputs, order), tf.gather(labels, order)))
      .apply(
        tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
      )
      .prefetch(tf.data.AUTOTUNE)
    )

  def test(self, batch_size: int) -> tf.data.Dataset:
    """Batches of all test examples once, in order; the last may be smaller."""
    return (
      tf.data.Dataset.from_tensor_slices(
        (self.test_inputs, self.test_labels.astype(np.int64))
      )
      .batch(batch_size)
      .prefetch(tf.data.AUTOTUNE)
    )
