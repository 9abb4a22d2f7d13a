"""Data sets that take their time, as slow workers do."""

import tensorflow as tf


def delayed(dataset: tf.data.Dataset, seconds: tf.Tensor) -> tf.data.Dataset:
  """Returns the data set, for each of whose elements one must wait so long."""
  spec = dataset.element_spec
  flat = tf.nest.flatten(spec)
  return tf.data.experimental.from_variant(
    tf.raw_ops.SleepDataset(
      input_dataset=tf.data.experimental.to_variant(dataset),
      sleep_microseconds=tf.cast(1e6 * seconds, tf.int64),
      output_types=[part.dtype for part in flat],
      output_shapes=[part.shape for part in flat],
    ),
    spec,
  )
