"""What a dispatch returns, and how it comes home."""

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context, executor


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
  """Is called by TensorFlow where it makes a local copy.

  Raises:
    tf.errors.OpError: if the worker is gone. TensorFlow's coordinator tells
      from the message which one.
  """
  # The threads of all workers share an executor, which fails as a whole: where
  # one is gone, others would be taken for dead, and wait for it to return.
  own = executor.new_executor(enable_async=False)
  try:
    with context.executor_scope(own):
      return input.packed.numpy()
  except tf.errors.CancelledError as error:
    # Derived from the worker's failure to send, which is not reported, and does
    # not say whose it is.
    raise tf.errors.CancelledError(
      None, None, f"{input.packed.device} did not send: {error.message}"
    ) from error
  finally:
    # Otherwise it raises the error once more when it is deleted.
    own.clear_error()
