"""Moving statistics that belong to the weights which are evaluated."""

import keras
import numpy as np
import tensorflow as tf

from lc_asgd_tf import arguments, errors, normalization


class PreciseBatchNormalization(keras.callbacks.Callback):
  """Measures the statistics of batch normalization anew at the present weights.

  Moving means and variances were measured by workers, at snapshots from which
  the server has moved on since. Training does not read them, but evaluation
  does, and the further the weights have moved the worse it fares. This callback
  replaces them, before every validation, at the end of every epoch and at the
  end of training, by those of some batches b at the weights that the model
  holds then:

      mean     = mean over b of mean_b
      variance = mean over b of (variance_b + mean_b^2) - mean^2

  Each time costs `steps` forward passes. Weights, and the course of training,
  stay what they are; a data set that shuffles must therefore not be the one
  that is trained on, but another one like it. Put the callback behind
  `ServerWeights` and before callbacks that save the model.

  Example:
  ```python
  model.fit(
    make_train(), validation_data=test,
    callbacks=[
      lc_asgd_tf.callbacks.ServerWeights(),
      lc_asgd_tf.callbacks.PreciseBatchNormalization(make_train()),
    ],
  )
  ```

  Source: "precise BN" of Wu and Johnson, arXiv 2105.07576, section 3.

  Args:
    x: a batched `tf.data.Dataset` like the one that is trained on, in batches
      of the same size; of the inputs, or of (x, y) or (x, y, sample_weight).
    steps: how many of its batches to take, from its first on; all if it has
      fewer.

  Raises:
    TypeError: if `x` is no data set, or `steps` no int.
    ValueError: if `steps` is not positive.
  """

  def __init__(self, x: tf.data.Dataset, steps: int = 32) -> None:
    super().__init__()
    if not isinstance(x, tf.data.Dataset):
      raise TypeError(
        f"x must be a batched tf.data.Dataset, got {type(x).__name__}."
      )
    self._batches = x.take(arguments.check_int("steps", steps, least=1))

  def set_model(self, model: keras.Model) -> None:
    """Takes note of the model, whose layers are looked up when it is built."""
    super().set_model(model)
    self._measure_batch = tf.function(
      self._batch_statistics, autograph=False, reduce_retracing=True
    )

  def on_train_begin(self, logs=None) -> None:
    """Refuses a layer that cannot be measured before time is spent on it."""
    self._layers()

  def on_test_begin(self, logs=None) -> None:
    """Measures, at the weights that are validated."""
    self._measure()

  def on_epoch_end(self, epoch, logs=None) -> None:
    """Measures, for the callbacks that follow."""
    self._measure()

  def on_train_end(self, logs=None) -> None:
    """Measures, at the weights that training ends with."""
    self._measure()

  def _measure(self) -> None:
    layers = self._layers()
    if not layers:
      return
    batches = []
    for number, batch in self._batches.enumerate():
      x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
      batches.append(self._measure_batch(x, number))
    if not batches:
      raise errors.UserError(
        "The data set that batch normalization is measured on is empty."
      )
    for layer, *of_batches in zip(layers, *batches, strict=True):
      if of_batches[0] is None:
        continue
      # In double precision: a variance may be small beside its mean.
      means, variances = np.array(of_batches, "float64").swapaxes(0, 1)
      mean = means.mean(0)
      layer.moving_mean.assign(mean)
      layer.moving_variance.assign((variances + means**2).mean(0) - mean**2)

  def _layers(self) -> list[keras.layers.BatchNormalization]:
    """Returns those that move their statistics; others keep what they have."""
    layers = [
      layer
      for layer in self.model._flatten_layers()
      if isinstance(layer, keras.layers.BatchNormalization)
      and layer.moving_mean is not None
      and layer.trainable
      and layer.momentum < 1
    ]
    for layer in layers:
      if getattr(layer, "renorm", False):
        raise errors.UserError(
          f"Layer {layer.name!r} is a BatchNormalization with renorm=True, "
          "which reads its moving statistics while it trains: they cannot be "
          "measured anew in between; leave that out (--batch_norm=async)."
        )
    return layers

  def _batch_statistics(self, x, number):
    """Returns (mean, variance) of a batch for each layer; None if it has none.

    Args:
      x: the model's input.
      number: of the batch, shape=(), int64.
    """
    model, layers = self.model, self._layers()
    # As workers do: each batch draws numbers of its own.
    state = [
      (
        variable,
        normalization.worker_seed(variable.value, number)
        if kind is normalization.Kind.COUNTER
        else variable.value,
      )
      for variable, (kind, _) in zip(
        model.non_trainable_variables,
        normalization.classify(model),
        strict=True,
      )
    ]
    # Traced, but never run, to see which layers move their statistics now.
    with normalization.CountingScope(state) as scope:
      model(x, training=True)
    moved = [scope.updates(layer.moving_mean) > 0 for layer in layers]
    statistics = [
      variable
      for layer, moves in zip(layers, moved, strict=True)
      if moves
      for variable in (layer.moving_mean, layer.moving_variance)
    ]
    scope.check_single_updates(statistics)
    # From zero, they move to (1 - momentum) times the batch's own.
    state += [(v, tf.zeros_like(v.value)) for v in statistics]
    with normalization.CountingScope(state) as scope:
      model(x, training=True)

    def statistic(layer, variable):
      return scope.get_current_value(variable) / (1 - layer.momentum)

    return [
      (
        statistic(layer, layer.moving_mean),
        statistic(layer, layer.moving_variance),
      )
      if moves
      else None
      for layer, moves in zip(layers, moved, strict=True)
    ]
