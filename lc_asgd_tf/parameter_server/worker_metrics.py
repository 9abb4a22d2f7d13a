"""Adds up the metrics of all workers, on the coordinator, by one thread."""

import keras
import numpy as np
import tensorflow as tf

from lc_asgd_tf.parameter_server import worker_step


class WorkerMetrics:
  """The sum of what the workers' dispatches returned.

  Keras metrics declare how their variables are combined over replicas: they
  are summed. Every dispatch starts from the reset state, so that the sum of
  what each of them added is the state of one metric that saw all the data.

  Args:
    model: whose metrics are meant.
    step: how results are packed.
  """

  def __init__(self, model: keras.Model, step: worker_step.WorkerStep) -> None:
    self._model = model
    self._step = step
    self.reset()

  def reset(self) -> None:
    """Starts over."""
    self._sums = [
      np.array(value, np.float64) for value in self._step.initial_metrics
    ]
    self.steps = 0
    self.staleness_sum = 0
    self.staleness_max = 0

  def add(self, packed: np.ndarray) -> None:
    """Adds the result of one dispatch."""
    *states, steps, total, largest = self._step.result.unpack_array(packed)
    for sums, state, start in zip(
      self._sums, states, self._step.initial_metrics, strict=True
    ):
      sums += state.astype(np.float64) - start
    self.steps += int(steps)
    self.staleness_sum += int(total)
    self.staleness_max = max(self.staleness_max, int(largest))

  def logs(self) -> dict[str, float]:
    """Returns the metrics as `keras.Model.fit` logs them."""
    for variable, value in zip(
      self._model.metrics_variables, self._sums, strict=True
    ):
      variable.assign(value.astype(variable.dtype))
    results = self._model.get_metrics_result()
    return tf.nest.map_structure(lambda result: _plain(result), results)


def _plain(value):
  value = np.asarray(value)
  return float(value) if value.ndim == 0 else value
