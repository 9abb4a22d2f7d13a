"""The data sets of the workers, from the function that a user gives."""

import functools
import inspect
from collections.abc import Callable, Mapping

import tensorflow as tf

from lc_asgd_tf import errors
from lc_asgd_tf.parameter_server import class_weights, input_context


class WorkerData:
  """The data set of each worker.

  Args:
    dataset_fn: returns a batched data set; called with an `InputContext` if it
      requires an argument.
    num_workers: M.
    pushes: returns how many the server has seen, shape=(), int64; called when
      a worker begins its data.
    class_weight: as in `keras.Model.fit`.

  Attributes:
    element_spec: of one worker's data set, as of all.
    cardinality: how many batches one worker's data set has, before it is
      repeated; negative if infinite or unknown.

  Raises:
    TypeError: if `dataset_fn` is not a function that returns a data set.
    UserError: if it reads a Python generator, or `class_weight` does not fit.
  """

  def __init__(
    self,
    dataset_fn: Callable[..., tf.data.Dataset],
    num_workers: int,
    pushes: Callable[[], tf.Tensor],
    class_weight: Mapping[int, float] | None = None,
  ) -> None:
    if not callable(dataset_fn):
      raise TypeError(
        "x must be a function that returns a tf.data.Dataset, which every "
        f"worker calls, got {type(dataset_fn).__name__}."
      )
    self._dataset_fn = dataset_fn
    self._takes_context = _requires_argument(dataset_fn)
    self._num_workers = num_workers
    self._pushes = pushes
    self._class_weight = class_weight
    with tf.device("/CPU:0"):
      none = tf.constant(0, tf.int64)
      example = self._make(worker=none, pushes=none)
    # When its iterator ends, worker and coordinator may wait for each other.
    if _reads_generator(example):
      raise errors.UserError(
        "x returns a tf.data.Dataset.from_generator, whose generator would run "
        "in one process for all workers: write files that they read, or use "
        "tensors and operations of tf.data."
      )
    self.element_spec = example.element_spec
    self.cardinality = int(example.cardinality())
    # Within a function, options are no longer known.
    self._says_nothing_of_tuning = example.options().autotune.enabled is None

  def on_this_worker(self) -> tf.data.Dataset:
    """Returns the data set, repeated, of the worker that calls."""
    # tf.data fails where the global seed is 0 and a data set's own a tensor, as
    # one is that depends on the worker. Inside a function this call fixes the
    # global seed of the function alone.
    if tf.compat.v1.get_default_graph().seed == 0:
      tf.random.set_seed(1)
    index = tf.distribute.coordinator.experimental_get_current_worker_index()
    dataset = self._make(tf.cast(index, tf.int64), self._pushes()).repeat()
    if self._says_nothing_of_tuning:
      # An iterator's end waits for its tuner's, which sleeps longer and longer,
      # up to a minute; meanwhile the worker would not begin the next `fit`.
      options = tf.data.Options()
      options.autotune.enabled = False
      dataset = dataset.with_options(options)
    return dataset

  def _make(self, worker, pushes):
    make = self._dataset_fn
    if self._takes_context:
      make = functools.partial(
        make, input_context.InputContext(self._num_workers, worker, pushes)
      )
    dataset = make()
    if not isinstance(dataset, tf.data.Dataset):
      raise TypeError(
        "x must return a tf.data.Dataset, it returned "
        f"{type(dataset).__name__}."
      )
    if self._class_weight is not None:
      dataset = class_weights.weigh(dataset, self._class_weight)
    return dataset


def _requires_argument(function: Callable) -> bool:
  return any(
    parameter.default is parameter.empty
    and parameter.kind
    in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    for parameter in inspect.signature(function).parameters.values()
  )


def _reads_generator(dataset: tf.data.Dataset) -> bool:
  """Returns whether a Python generator is among what a data set reads."""
  # `from_generator` is a `flat_map`; it may be within another function.
  graphs = (each.function.graph for each in dataset._functions())
  return any(
    b"GeneratorDataset" in graph.as_graph_def().SerializeToString()
    for graph in graphs
  ) or any(map(_reads_generator, dataset._inputs()))
