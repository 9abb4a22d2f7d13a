"""Random changes of training images that keep their labels true."""

import tensorflow as tf


def pad_crop_flip(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """Shifts an image at random, and mirrors it with probability one half.

  The image is padded with zeros by an eighth of its height on every side (4
  pixels for 32x32 images), cropped at random to its own size and flipped
  left-right at random: the augmentation of He et al. (2015), section 4.2. Not
  for images whose mirror image means something else, such as digits.

  Args:
    image: any numeric dtype, static shape `(height, width, channels)`.
    seed: int32 or int64 of shape `(2,)`, which alone determines the result.

  Returns:
    The changed image; shape and dtype as `image`.
  """
  crop_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
  pad = image.shape[0] // 8
  padded = tf.pad(image, ((pad, pad), (pad, pad), (0, 0)))
  cropped = tf.image.stateless_random_crop(padded, image.shape, crop_seed)
  return tf.image.stateless_random_flip_left_right(cropped, flip_seed)
