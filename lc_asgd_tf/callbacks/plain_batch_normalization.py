"""Batch normalization without Async-BN, to see what that is worth."""

import keras

from lc_asgd_tf import errors
from lc_asgd_tf.callbacks import server_weights


class PlainBatchNormalization(server_weights.ServerWeights):
  """`ServerWeights`, with moving statistics of its own for each worker.

  Simulated workers share the model's moving means and variances, which is what
  Async-BN does on a cluster: every batch counts once, however late. With this
  callback in place of `ServerWeights`, each worker moves its own, as plain
  batch normalization would, and validation sees those of the worker that pushed
  last, since it would have overwritten the server's.

  It must be there from the first `fit` on, and the model be built by then. The
  workers' statistics are not saved with the model.

  Raises:
    ValueError: from `fit`, if either is not so.
  """

  def on_train_begin(self, logs=None) -> None:
    """Gives every worker its own moving statistics."""
    super().on_train_begin(logs)
    optimizer, simulation = self._optimizer(), self._simulation()
    if optimizer and optimizer.num_workers > 1 and not simulation:
      raise errors.UserError(
        "PlainBatchNormalization must know the layers' statistics before "
        "training begins: let the model begin with keras.Input, or build it."
      )
    if simulation and not simulation.carries_buffers:
      simulation.carry_buffers(
        [
          variable
          for layer in self.model._flatten_layers()
          if isinstance(layer, keras.layers.BatchNormalization)
          for variable in (layer.moving_mean, layer.moving_variance)
        ]
      )
