"""What a dispatch returns, and how it comes home."""

import numpy as np
import tensorflow as tf


class DispatchResult(tf.experimental.ExtensionType):
  """A tensor on a worker, which the coordinator fetches as an array.

  Of a mere tensor TensorFlow's coordinator makes a local one by a function of
  two tasks, on the thread of each worker. There must never be two threads with
  such functions: the runtime would run one by what it knows of it in a list
  that moves when another one is run for the first time, and crash, or ask the
  worker for what there is not.

  Attributes:
    packed: a vector of any length and dtype.
  """

  packed: tf.Tensor


@tf.experimental.dispatch_for_api(tf.identity)
def _fetch(input: DispatchResult, name=None) -> np.ndarray:
  """Is called by TensorFlow where it makes a local copy."""
  return input.packed.numpy()
