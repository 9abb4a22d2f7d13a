"""One replica: what Keras's optimizers do for several is left out."""

import keras


def sum_over_none(optimizer: keras.optimizers.Optimizer) -> None:
  """Has the optimizer apply gradients as they are, from now on.

  Keras sums them over the replicas of a strategy, of which a server or a
  predictor has one. TensorFlow would remember every trace of that sum, and with
  it all variables of the traced function, for the life of the process.
  """
  optimizer._all_reduce_sum_gradients = list
