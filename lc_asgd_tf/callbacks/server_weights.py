"""Shows validation and checkpoints the server's weights."""

import keras

from lc_asgd_tf import errors, optimizers


class ServerWeights(keras.callbacks.Callback):
  """Makes the model hold the server's weights whenever it does not train.

  With simulated workers, the model holds the snapshot of the worker whose turn
  it is while it trains. This callback loads the server's weights for the
  callbacks at the end of an epoch and for the end of `fit`, and the snapshot
  again when training goes on; and for evaluation and prediction, after which
  the model holds what it held before. Put it before callbacks that save the
  model, and behind `keras.callbacks.SwapEMAWeights`, which is its precedent,
  and which swaps weights on the server.

  It also adds to the logs of an epoch what `AsyncTrainer.fit` adds (pushes,
  staleness, errors of the predictors; the largest staleness is that of all
  training so far), and `virtual_time`, that of the epoch's last push since the
  first `fit`.

  Weights that somebody sets meanwhile, between two calls of `fit` or in
  another callback, become the server's and every worker's; at the end of a
  batch only with `at_batch_end`. They are overlooked where they are, to the
  bit, the snapshot that the model would hold if nobody had set any. After an
  interruption, such as Ctrl-C, the model still holds a snapshot, until
  `model.optimizer.finalize_variable_values(model.trainable_variables)`.

  With one worker, or with any other optimizer, it does nothing.

  Example:
  ```python
  model.compile(lc_asgd_tf.LCASGD(0.1, num_workers=64), loss="mse")
  model.fit(
    x, y, validation_split=0.1,
    callbacks=[lc_asgd_tf.callbacks.ServerWeights()],
  )
  ```

  Args:
    at_batch_end: whether to do the same at the end of every batch, for
      callbacks that save then, such as `ModelCheckpoint(save_freq=100)`. It
      costs two copies of the weights per batch.
  """

  def __init__(self, at_batch_end: bool = False) -> None:
    super().__init__()
    self._at_batch_end = at_batch_end
    self._begun = None
    self._shows_server_weights = False
    self._begins = False
    # Whether the model held a snapshot when evaluation or prediction began.
    self._held_snapshot = False

  def _optimizer(self):
    # None before the model is compiled.
    optimizer = getattr(self.model, "optimizer", None)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
      optimizer = optimizer.inner_optimizer
    ours = isinstance(optimizer, optimizers.AsyncOptimizer)
    return optimizer if ours else None

  def _simulation(self):
    optimizer = self._optimizer()
    if optimizer is None:
      return None
    if not optimizer.built and self.model.built:
      optimizer.build(self.model.trainable_variables)
    return optimizer.simulation

  def _show_server_weights(self):
    if simulation := self._simulation():
      simulation.show_server_weights()
      self._shows_server_weights = True

  def _show_snapshot(self):
    if simulation := self._simulation():
      simulation.show_snapshot()
      self._shows_server_weights = False

  def on_train_begin(self, logs=None) -> None:
    """Takes over weights that were set since training last ended."""
    self._check_others()
    if optimizer := self._optimizer():
      self._check(optimizer)
      optimizer.shows_server_weights = True
    if simulation := self._simulation():
      simulation.adopt_changes()

  def _check(self, optimizer):
    """Refuses what does not work with simulated workers, built or not."""
    if optimizer.num_workers == 1:
      return
    is_wrapped = self.model.optimizer is not optimizer
    if is_wrapped and optimizer.compensation.uses_prediction:
      raise errors.UserError(
        "This rule needs the loss, which Keras's LossScaleOptimizer keeps "
        "from it under mixed_float16: use mixed_bfloat16, or compile with "
        "auto_scale_loss=False."
      )
    for layer in self.model._flatten_layers():
      if isinstance(layer, keras.layers.SpectralNormalization):
        raise errors.UserError(
          f"Layer {layer.name!r} assigns its weights in the forward pass: "
          "one simulated worker's snapshot would be normalized, and not the "
          "server's weights. Set num_workers=1, or leave it out."
        )

  def _check_others(self):
    """Refuses simulated workers of which nobody would show the server's."""
    others = dict(vars(self.model))
    # Of keras.optimizers.MultiOptimizer.
    parts = getattr(others.get("optimizer"), "optimizers", ())
    for i, other in enumerate(parts):
      others[f"optimizer.optimizers[{i}]"] = other
    ours = self._optimizer()
    for name, other in others.items():
      if (
        isinstance(other, optimizers.AsyncOptimizer)
        and other is not ours
        and other.num_workers > 1
      ):
        raise errors.UserError(
          f"model.{name} simulates workers, too, and ServerWeights knows only "
          "those of model.optimizer: compile with that optimizer alone, or set "
          "its num_workers=1."
        )

  def on_train_end(self, logs=None) -> None:
    """Leaves it to the next `fit` to have such a callback."""
    if optimizer := self._optimizer():
      optimizer.shows_server_weights = False

  def on_epoch_begin(self, epoch, logs=None) -> None:
    """Loads the snapshot, and begins the epoch's statistics."""
    self._show_snapshot()
    self._begins = True
    if simulation := self._simulation():
      self._begun = simulation.statistics()

  def on_epoch_end(self, epoch, logs=None) -> None:
    """Loads the server's weights and logs, for the callbacks that follow."""
    self._show_server_weights()
    if logs is not None and (simulation := self._simulation()):
      logs.update(simulation.logs(since=self._begun))
      self._optimizer().check_loss(logs.get("loss", 0.0))

  def on_train_batch_begin(self, batch, logs=None) -> None:
    """Loads the snapshot, if the last batch ended with the server's weights."""
    # Callbacks may have set weights as the epoch began.
    if self._shows_server_weights or self._begins:
      self._show_snapshot()
      self._begins = False

  def on_train_batch_end(self, batch, logs=None) -> None:
    """Loads the server's weights, if asked to, for what follows."""
    if self._at_batch_end:
      self._show_server_weights()

  def on_test_begin(self, logs=None) -> None:
    """Loads the server's weights."""
    if simulation := self._simulation():
      self._held_snapshot = simulation.holds_snapshot()
      self._show_server_weights()

  def on_test_end(self, logs=None) -> None:
    """Loads the snapshot, if the model held it before."""
    if self._held_snapshot:
      self._show_snapshot()

  def on_predict_begin(self, logs=None) -> None:
    """Loads the server's weights."""
    self.on_test_begin()

  def on_predict_end(self, logs=None) -> None:
    """Loads the snapshot, if the model held it before."""
    self.on_test_end()
