"""Image-classification data sets of TFDS as endless, seeded batches."""

import dataclasses
import itertools
import math
import os

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from lc_asgd_tf import errors
from lc_asgd_tf.datasets import (
  augmentation,
  bundled,
  in_memory,
  preparation,
)

# Decoded image bytes that one pipeline may hold. A data set that fits is read
# and decoded once and shuffled as a whole; of a larger one, this much is the
# shuffle buffer. CIFAR-10 takes 147 MiB.
_MEMORY_BYTES = 256 * 2**20


@dataclasses.dataclass(frozen=True)
class ImageClassification:
  """A prepared data set of images of one size, each with one label.

  Made by `load`. Batches are pairs of images, float32 in [0, 1] of shape
  `(batch_size, height, width, channels)`, and labels, int64 in
  `[0, num_classes)` of shape `(batch_size,)`.

  Attributes:
    name: name of the data set, as given to `load`.
    image_shape: `(height, width, channels)`.
    num_classes: number of classes.
    num_train: number of training examples.
    num_test: number of test examples.
    train_split: TFDS split that `train` reads.
    test_split: TFDS split that `test` reads.
    image_key: name of the image feature.
    label_key: name of the label feature.
    builder: the TFDS builder, prepared.
  """

  name: str
  image_shape: tuple[int, int, int]
  num_classes: int
  num_train: int
  num_test: int
  train_split: str
  test_split: str
  image_key: str = dataclasses.field(repr=False)
  label_key: str = dataclasses.field(repr=False)
  builder: tfds.core.DatasetBuilder = dataclasses.field(
    repr=False, compare=False
  )

  @property
  def input_shape(self) -> tuple[int, int, int]:
    """The shape of one input: `image_shape`."""
    return self.image_shape

  # AutoGraph, which converts what a cluster traces, would warn about TFDS.
  @tf.autograph.experimental.do_not_convert
  def train(
    self,
    batch_size: int,
    *,
    seed: int | tf.Tensor,
    worker: int | tf.Tensor = 0,
    augment: bool = False,
  ) -> tf.data.Dataset:
    """Batches of shuffled training examples, forever.

    Every epoch holds each training example once, in an order of its own that
    is determined by `seed`, `worker` and the number of the epoch, and by
    nothing else; in particular not by the program's global seed. Batches
    cross from one epoch into the next, so no example is ever dropped.
    `num_train / batch_size` batches make an epoch.

    On a cluster, this function may be traced once and run on every worker with
    the worker's index as a tensor. The files must then be readable under the
    same path on every worker.

    Args:
      batch_size: number of examples in a batch, at least 1.
      seed: any integer, or a scalar tensor of one.
      worker: index of the worker that reads, a Python integer or a scalar
        integer tensor. Workers read the whole split, each in its own order.
      augment: whether to shift and flip the images at random, with
        `augmentation.pad_crop_flip`. The changes, too, are determined by
        `seed`, `worker` and the position in the stream.

    Returns:
      An infinite data set of batches with static shapes.
    """
    root = tf.stack([tf.cast(seed, tf.int64), tf.cast(worker, tf.int64)])
    order_seed, augment_seed = tf.unstack(tf.random.split(root, 2))
    examples = self._shuffle_forever(order_seed)
    if augment:
      examples = examples.enumerate().map(
        lambda position, example: (
          augmentation.pad_crop_flip(
            example[0], tf.random.fold_in(augment_seed, position)
          ),
          example[1],
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
      )
    return _batch(examples, batch_size, drop_remainder=True)

  @tf.autograph.experimental.do_not_convert
  def test(self, batch_size: int) -> tf.data.Dataset:
    """Batches of all test examples once, in the order of the files.

    Args:
      batch_size: number of examples in a batch, at least 1; the last batch
        holds the rest and may be smaller.

    Returns:
      A finite data set; small ones stay in memory after the first pass.
    """
    examples = self._read(self.test_split)
    if self._fits_in_memory(self.num_test):
      examples = examples.cache()
    return _batch(examples, batch_size, drop_remainder=False)

  def _shuffle_forever(self, order_seed: tf.Tensor) -> tf.data.Dataset:
    """Single training examples, one shuffled epoch after another."""
    cached = None
    if self._fits_in_memory(self.num_train):
      cached = self._read(self.train_split).cache()
    # One place too many: filling it finds the end, which completes the cache.
    buffer_size = min(self.num_train + 1, self._num_in_memory())

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
      # tf.data mixes the global seed into each shuffle, and fails where that
      # is 0 and the own seed a tensor. Inside a function this call fixes the
      # global seed of the function alone.
      tf.random.set_seed(1)
      seed = tf.random.stateless_uniform(
        (),
        tf.random.fold_in(order_seed, number),
        minval=None,
        maxval=None,
        dtype=tf.int64,
      )
      examples = cached
      if examples is None:
        examples = self._read(self.train_split, file_seed=seed)
      return examples.shuffle(
        buffer_size, seed=seed, reshuffle_each_iteration=False
      )

    forever = tf.data.Dataset.counter().flat_map(epoch)
    return forever.apply(
      tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    )

  def _read(
    self, split: str, file_seed: tf.Tensor | None = None
  ) -> tf.data.Dataset:
    """Single decoded examples of a split; files shuffled if seeded."""
    config = tfds.ReadConfig(try_autocache=False, skip_prefetch=True)
    if file_seed is None:
      config.interleave_cycle_length = 1  # File after file, in order.
    else:
      config.shuffle_seed = file_seed
      config.shuffle_reshuffle_each_iteration = False
      config.enable_ordering_guard = False  # To train out of order is the aim.
    keys = (self.image_key, self.label_key)
    examples = self.builder.as_dataset(
      split=split,
      shuffle_files=file_seed is not None,
      decoders=tfds.decode.PartialDecoding({key: True for key in keys}),
      read_config=config,
    )
    return examples.map(lambda example: tuple(example[key] for key in keys))

  def _num_in_memory(self) -> int:
    """How many decoded images a pipeline may hold; at least 1."""
    pixel = np.dtype(self.builder.info.features[self.image_key].np_dtype)
    image_bytes = math.prod(self.image_shape) * pixel.itemsize
    return max(1, _MEMORY_BYTES // image_bytes)

  def _fits_in_memory(self, num_examples: int) -> bool:
    return num_examples <= self._num_in_memory()


def load(
  name: str,
  data_dir: str | os.PathLike[str] | None = None,
  train_split: str | None = None,
  test_split: str | None = None,
  download: bool = True,
) -> ImageClassification | in_memory.InMemoryClassification:
  """Loads a bundled data set, or one of TFDS for image classification.

  Args:
    name: name of the data set, such as `"digits"` or `"cifar10"`; `name/config`
      and `name:version` work as in TFDS. `"breast_cancer"` and
      `"python_topics"` are bundled (see `bundled`) and have fixed splits.
    data_dir: directory of prepared data sets; the default is that of TFDS
      (`$TFDS_DATA_DIR`, else `~/tensorflow_datasets`). A data set that is
      prepared there is used without a network, and without code for it.
    train_split: TFDS split to train on, such as `"train[:80%]"`; by default, or
      if empty, `"train"`.
    test_split: TFDS split to test on; by default, or if empty, `"test"`, else
      `"validation"`, whichever the data set has.
    download: whether a data set that is not prepared may be downloaded.

  Returns:
    The data set, prepared.

  Raises:
    UserError: if no data set has this name, it is not prepared and cannot be,
      it has no image and label, its images vary in size, it has no such split,
      or the two have examples in common.
  """
  train_split = train_split or "train"
  if name in bundled.BUNDLED:
    if train_split != "train" or (test_split or "test") != "test":
      raise errors.UserError(
        f"data set {name!r} has the splits 'train' and 'test' and no others"
      )
    return bundled.BUNDLED[name]()
  builder = preparation.find_builder(name, data_dir)
  # Looked at first: the download of a data set of no use is spared.
  image_key, label_key = _find_keys(name, builder.info)
  image_shape = _image_shape(name, builder.info.features[image_key])
  preparation.prepare(builder, download=download)
  test_split = test_split or _default_test_split(name, builder.info)
  num_train = _count(name, builder.info, train_split)
  num_test = _count(name, builder.info, test_split)
  if shared := _shared(builder.info, train_split, test_split):
    raise errors.UserError(
      f"train_split={train_split!r} and test_split={test_split!r} of data set"
      f" {name!r} have {shared} examples in common: name parts that do not"
      " overlap, such as 'train[:80%]' and 'train[80%:]'"
    )
  return ImageClassification(
    name=name,
    image_shape=image_shape,
    num_classes=builder.info.features[label_key].num_classes,
    num_train=num_train,
    num_test=num_test,
    train_split=train_split,
    test_split=test_split,
    image_key=image_key,
    label_key=label_key,
    builder=builder,
  )


def _batch(
  examples: tf.data.Dataset, batch_size: int, *, drop_remainder: bool
) -> tf.data.Dataset:
  """Batches examples; scales whole batches, which is cheaper than images."""
  batches = examples.batch(batch_size, drop_remainder=drop_remainder)
  batches = batches.map(
    lambda images, labels: (
      tf.image.convert_image_dtype(images, tf.float32),
      labels,
    ),
    num_parallel_calls=tf.data.AUTOTUNE,
  )
  return batches.prefetch(tf.data.AUTOTUNE)


def _find_keys(name: str, info: tfds.core.DatasetInfo) -> tuple[str, str]:
  """Names of the image and the label feature, or a `UserError`."""
  keys = info.supervised_keys or ("image", "label")
  features = info.features
  if (
    isinstance(features, tfds.features.FeaturesDict)
    and len(keys) == 2
    and all(isinstance(key, str) and key in features for key in keys)
    and isinstance(features[keys[0]], tfds.features.Image)
    and isinstance(features[keys[1]], tfds.features.ClassLabel)
  ):
    return keys
  raise errors.UserError(
    f"data set {name!r} is not for image classification: it has no pair of an"
    " image and a class label"
  )


def _image_shape(
  name: str, feature: tfds.features.Image
) -> tuple[int, int, int]:
  """The one shape of all images, or a `UserError`."""
  if None in feature.shape:
    raise errors.UserError(
      f"data set {name!r} has images of varying size, shape {feature.shape};"
      " all images must have one size"
    )
  return tuple(feature.shape)


def _default_test_split(name: str, info: tfds.core.DatasetInfo) -> str:
  """`test`, else `validation`, else a `UserError`."""
  for split in ("test", "validation"):
    if split in info.splits:
      return split
  raise errors.UserError(
    f"data set {name!r} has no test split, only {', '.join(info.splits)}: name"
    " parts that do not overlap, such as train_split='train[:80%]' and"
    " test_split='train[80%:]'"
  )


def _count(name: str, info: tfds.core.DatasetInfo, split: str) -> int:
  """Number of examples in a split, at least 1, or a `UserError`."""
  try:
    num_examples = info.splits[split].num_examples
  except (AssertionError, KeyError, ValueError) as error:
    raise errors.UserError(
      f"data set {name!r} has no split {split!r}; it has"
      f" {', '.join(info.splits)}"
    ) from error
  if num_examples <= 0:
    raise errors.UserError(f"split {split!r} of data set {name!r} is empty")
  return num_examples


def _shared(info: tfds.core.DatasetInfo, *splits: str) -> int:
  """Number of examples that two splits have in common."""

  def parts(split):
    for part in info.splits[split].file_instructions:
      length = part.take if part.take >= 0 else part.examples_in_shard
      end = min(part.skip + length, part.examples_in_shard)
      yield part.filename, part.skip, end

  one, other = map(parts, splits)
  return sum(
    max(0, min(end, other_end) - max(begin, other_begin))
    for (name, begin, end), (
      other_name,
      other_begin,
      other_end,
    ) in itertools.product(one, other)
    if name == other_name
  )
