"""Async-BN: one set of moving statistics, whatever the staleness.

Asynchronous workers must neither overwrite each other's moving statistics nor
add a change that was computed from an old value as if it had been computed
from the new one. A worker therefore sends its *contribution*, the part of the
new value that does not depend on the old one, and the server merges it into
its current value. The same holds for the counters of random seeds.
"""

import enum

import keras
import tensorflow as tf

from lc_asgd_tf import errors


class Kind(enum.Enum):
  """How a non-trainable variable follows the workers.

  Attributes:
    MOVING_STATISTIC: m <- momentum m + contribution, for the mean and variance
      of batch normalization; contribution = (1 - momentum) batch statistic.
    COUNTER: c <- c + contribution, for the state of seed generators, so that
      no worker draws the same numbers twice.
    LATEST: s <- contribution: the last push wins, for everything else.
    FROZEN: it stays as it is: a weight that is not to be trained.
  """

  MOVING_STATISTIC = "moving_statistic"
  COUNTER = "counter"
  LATEST = "latest"
  FROZEN = "frozen"


def contribution(
  kind: Kind, momentum: float, pulled: tf.Tensor, returned: tf.Tensor
) -> tf.Tensor:
  """Returns what a worker sends.

  Args:
    kind: the variable's kind.
    momentum: of the moving statistic; not read for other kinds.
    pulled: the value with which the worker began its step.
    returned: the value after the step, same shape and dtype.

  Returns:
    For a moving statistic returned - momentum pulled, which is
    (1 - momentum) batch statistic; for a counter returned - pulled; otherwise
    `returned`. Same shape and dtype. Nothing is to be sent of a frozen weight.
  """
  if kind is Kind.MOVING_STATISTIC:
    return returned - tf.cast(momentum, pulled.dtype) * pulled
  if kind is Kind.COUNTER:
    return returned - pulled
  return returned


def merge(
  kind: Kind, momentum: float, current: tf.Tensor, sent: tf.Tensor
) -> tf.Tensor:
  """Returns the server's new value from its current one and a contribution."""
  if kind is Kind.MOVING_STATISTIC:
    return tf.cast(momentum, current.dtype) * current + sent
  if kind is Kind.COUNTER:
    return current + sent
  return sent


def worker_seed(state: tf.Tensor, worker: tf.Tensor) -> tf.Tensor:
  """Returns a seed generator's state for one worker.

  The first word is moved by a multiple of the golden ratio, so that workers
  draw different numbers; worker 0 draws what a single process would.

  Args:
    state: (seed, counter), shape=(2,), an integer dtype.
    worker: m, shape=(), int64.
  """
  shift = tf.cast(worker * 0x9E3779B9, state.dtype)
  return state + tf.stack([shift, tf.zeros_like(shift)])


def classify(model: keras.Model) -> list[tuple[Kind, float]]:
  """Returns (kind, momentum) of each of the model's non-trainable variables.

  Frozen batch normalization does not move its statistics; they count as
  `LATEST`, which leaves them as they are.

  Raises:
    UserError: for synchronized batch normalization, which asynchronous workers
      cannot do.
  """
  kinds = {}
  for layer in model._flatten_layers():
    # Those that would be trained if nobody had said otherwise.
    for variable in layer._trainable_variables:
      kinds[id(variable)] = (Kind.FROZEN, 0.0)
    for generator in layer._seed_generators:
      kinds[id(generator.state)] = (Kind.COUNTER, 0.0)
    if isinstance(layer, keras.layers.BatchNormalization):
      if layer.synchronized:
        raise errors.UserError(
          f"Layer {layer.name!r} is a BatchNormalization with "
          "synchronized=True: asynchronous workers never wait for each other. "
          "Use synchronized=False."
        )
      if layer.trainable:
        for variable in (layer.moving_mean, layer.moving_variance):
          kinds[id(variable)] = (Kind.MOVING_STATISTIC, layer.momentum)
  return [
    kinds.get(id(variable), (Kind.LATEST, 0.0))
    for variable in model.non_trainable_variables
  ]
