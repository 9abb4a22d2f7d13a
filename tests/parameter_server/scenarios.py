"""What happens on the clusters; each returns plain values for the tests."""

import functools
import math
import os
import pathlib
import signal
import tempfile
import threading
import time
import warnings
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.distribute.coordinator import values

import lc_asgd_tf
from benchmarks import slow_data
from lc_asgd_tf import compensation
from lc_asgd_tf import errors as errors_lib
from lc_asgd_tf.cluster import resources

BATCH = 4
STEPS = 200
# Small, so that the coordinator dispatches often and workers meet.
DISPATCH = 5
# Tasks that were started in place of workers that had been killed.
_REPLACEMENTS = []


class Examples(keras.metrics.Metric):
  """Counts examples exactly, whatever the batch."""

  def __init__(self, name="examples", **kwargs):
    super().__init__(name=name, **kwargs)
    self.count = self.add_variable((), "zeros", dtype="int64", name="count")

  def update_state(self, y_true, y_pred, sample_weight=None):
    self.count.assign(self.count + tf.shape(y_true, out_type=tf.int64)[0])

  def result(self):
    return tf.cast(self.count, tf.float64)


def _linear_loss(y_true, y_pred):
  """Whose gradient is 1 for every weight below, whatever the weights."""
  del y_true
  return tf.reduce_sum(y_pred, axis=-1)


def _ones(batch=BATCH):
  x, y = np.ones((batch, 3), np.float32), np.ones((batch, 1), np.float32)
  return tf.data.Dataset.from_tensors((x, y))


def _counting_model():
  """Returns a model with four variables, each of gradient 1 at every weight."""
  inputs = keras.Input((3,))
  parts = [
    keras.layers.Dense(1, kernel_initializer="zeros", name=f"part_{i}")(inputs)
    for i in range(2)
  ]
  return keras.Model(inputs, keras.layers.Add()(parts))


def new_trainer(
  model,
  strategy,
  optimizer,
  loss=_linear_loss,
  pull_dtype="float32",
  steps_per_dispatch=DISPATCH,
  **compile_kwargs,
):
  """Returns a trainer that makes workers meet often."""
  model.compile(optimizer=optimizer, loss=loss, **compile_kwargs)
  return lc_asgd_tf.AsyncTrainer(
    model,
    strategy,
    steps_per_dispatch=steps_per_dispatch,
    pull_dtype=pull_dtype,
  )


def _counts(trainer, logs):
  server = trainer._remote._server
  metrics = trainer._metrics
  return {
    "iterations": [int(s.optimizer.iterations.numpy()) for s in server.shards],
    "version": int(server.ledger.version.numpy()),
    "pushes": logs["pushes"][-1],
    "staleness_sum": server.ledger.statistics.numpy()[2],
    "staleness_max": logs["staleness_max"][-1],
    "worker_steps": metrics.steps,
    "worker_staleness_sum": metrics.staleness_sum,
    "worker_staleness_max": metrics.staleness_max,
    "variables_per_shard": [len(part) for part in trainer._remote.placement],
  }


def asgd_counts(strategy):
  """Every push of learning rate 1 moves every weight by exactly -1."""
  model = _counting_model()
  trainer = new_trainer(
    model, strategy, lc_asgd_tf.ASGD(1.0), metrics=[Examples()]
  )
  history = trainer.fit(_ones, steps_per_epoch=STEPS, verbose=0).history
  weights = [w.tolist() for w in model.get_weights()]
  return _counts(trainer, history) | {
    "weights": weights,
    "examples": history["examples"][-1],
    "loss_is_finite": math.isfinite(history["loss"][-1]),
  }


def adam_counts(strategy):
  """Adam's state is read and written by every push."""
  model = _counting_model()
  optimizer = lc_asgd_tf.AsyncOptimizer(keras.optimizers.Adam(0.001))
  trainer = new_trainer(model, strategy, optimizer)
  history = trainer.fit(_ones, steps_per_epoch=STEPS, verbose=0).history
  inner = trainer._remote._server.shards[0].optimizer
  return _counts(trainer, history) | {
    "momentums": [float(np.ravel(m.numpy())[0]) for m in inner._momentums],
  }


def lc_asgd_counts(strategy):
  """LC-ASGD reads snapshots, MS, ledger and forecasts, and writes them."""
  model = _counting_model()
  trainer = new_trainer(model, strategy, lc_asgd_tf.LCASGD(0.001, momentum=0.9))
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    history = trainer.fit(_ones, steps_per_epoch=STEPS, verbose=0).history
  server = trainer._remote._server
  moments = server.shards[0].second_moments
  trends = server.loss_predictor._trends.numpy()
  return _counts(trainer, history) | {
    "second_moments": [float(np.ravel(m.numpy())[0]) for m in moments],
    "rejected": history["rejected"][-1],
    "reports_in_trend": trends[STEPS % len(trends), 3],
    "warnings": [str(each.message) for each in caught],
  }


def not_finite(strategy):
  """Every second push of a worker is NaN or infinite."""

  def dataset_fn():
    x = np.ones((4, BATCH, 3), np.float32)
    x[1, 0, 0], x[3] = np.nan, np.inf
    y = np.ones((4, BATCH, 1), np.float32)
    return tf.data.Dataset.from_tensor_slices((x, y))

  model = _counting_model()
  trainer = new_trainer(model, strategy, lc_asgd_tf.LCASGD(0.001))
  history = trainer.fit(dataset_fn, steps_per_epoch=STEPS, verbose=0).history
  (shard, *_) = trainer._remote._server.shards
  return _counts(trainer, history) | {
    "rejected": history["rejected"][-1],
    "weights": [np.ravel(w).tolist() for w in model.get_weights()],
    "second_moments": [
      float(np.ravel(m.numpy())[0]) for m in shard.second_moments
    ],
  }


def rules(strategy):
  """Every other rule, too, counts every push."""
  results = {}
  for name, optimizer in {
    "ssgd": lc_asgd_tf.SSGD(1.0),
    "staleness_aware": lc_asgd_tf.StalenessAwareSGD(lambda: 0.01),
    "gap_aware": lc_asgd_tf.GapAwareSGD(0.01, momentum=0.9),
    "dana": lc_asgd_tf.DANA(1.0),
    "dc_asgd_c": lc_asgd_tf.DCASGD(0.01, adaptive=False),
  }.items():
    model = _counting_model()
    # Whose snapshots are read: here, of 16 bits.
    narrow = "bfloat16" if name == "dc_asgd_c" else "float32"
    trainer = new_trainer(model, strategy, optimizer, pull_dtype=narrow)
    history = trainer.fit(_ones, steps_per_epoch=60, verbose=0).history
    results[name] = _counts(trainer, history) | {
      "weights": [w.tolist() for w in model.get_weights()],
      "model_iterations": int(model.optimizer.iterations),
      "reply": trainer._remote._server.reply_specs()[1].shape[0],
    }
  ssgd = new_trainer(_counting_model(), strategy, lc_asgd_tf.SSGD(1.0))
  try:
    ssgd.fit(_ones, steps_per_epoch=61, verbose=0)
  except ValueError as error:
    results["error"] = str(error)
  return results


def repeated_push(strategy):
  """As if a worker had died after its push, and another done its step anew."""
  model = _counting_model()
  trainer = new_trainer(model, strategy, lc_asgd_tf.SSGD(1.0))

  class Push(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
      if batch == 3:
        remote = trainer._remote
        gradients = [tf.ones(v.shape) for v in remote.variables]
        messages = remote.messages(gradients, tf.constant(0.0))
        remote.push(messages, [], remote.snapshot_handles())

  versions = []
  callback = keras.callbacks.LambdaCallback(
    on_train_batch_end=lambda batch, logs: versions.append(trainer.reports()[1])
  )
  trainer.fit(
    _ones, steps_per_epoch=12, callbacks=[Push(), callback], verbose=0
  )
  rows, _ = trainer.reports()
  return {
    "versions": versions,
    "weights": [w.tolist() for w in model.get_weights()],
    "empty": np.flatnonzero(~rows[: versions[-1]].any(axis=1)).tolist(),
  }


def _normalized_model():
  model = keras.Sequential(
    [
      keras.Input((3,)),
      keras.layers.BatchNormalization(momentum=0.99),
      keras.layers.Dropout(0.5, seed=7),
      keras.layers.Dense(1),
    ]
  )
  return model


def batch_normalization(strategy):
  """All batches have the same statistics, so the server's are known."""
  x = np.array([[0, 1, 2], [2, 1, 0], [4, 4, 4], [2, 2, 2]], np.float32)

  def dataset_fn():
    return tf.data.Dataset.from_tensors((x, np.ones((4, 1), np.float32)))

  model = _normalized_model()
  trainer = new_trainer(model, strategy, lc_asgd_tf.ASGD(0.0), loss="mse")
  before = int(_seed_state(model)[1])
  history = trainer.fit(dataset_fn, steps_per_epoch=STEPS, verbose=0).history
  layer = model.layers[0]
  moving = [
    layer.moving_mean.numpy().tolist(),
    layer.moving_variance.numpy().tolist(),
  ]
  seed_steps = int(_seed_state(model)[1]) - before
  precise = lc_asgd_tf.callbacks.PreciseBatchNormalization(dataset_fn())
  trainer.fit(dataset_fn, steps_per_epoch=3, verbose=0, callbacks=[precise])
  return {
    "batch_mean": x.mean(axis=0).tolist(),
    "batch_variance": x.var(axis=0).tolist(),
    "moving_mean": moving[0],
    "moving_variance": moving[1],
    "precise_mean": layer.moving_mean.numpy().tolist(),
    "precise_variance": layer.moving_variance.numpy().tolist(),
    "staleness_max": history["staleness_max"][-1],
    "seed_steps": seed_steps,
  }


def _seed_state(model):
  return model.layers[1].seed_generator.state.numpy()


def callbacks(strategy):
  """Callbacks see the server, and the server sees what callbacks set."""
  model = _counting_model()
  trainer = new_trainer(model, strategy, lc_asgd_tf.ASGD(1.0))
  seen, batches, differences = [], [], []

  class Watch(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
      differences.append(logs["loss"] - self.latest)
      seen.append(float(self.model.get_weights()[0][0, 0]))
      if epoch == 2:
        self.model.stop_training = True

    def on_train_batch_end(self, batch, logs=None):
      batches.append(batch)
      self.latest = logs["loss"]

  rates = {0: 1.0, 1: 0.5, 2: 0.25}
  history = trainer.fit(
    _ones,
    epochs=10,
    steps_per_epoch=20,
    callbacks=[
      keras.callbacks.LearningRateScheduler(lambda epoch, _: rates[epoch]),
      Watch(),
    ],
    validation_data=([np.ones((2, 3)), np.ones((2, 1))][0], np.ones((2, 1))),
    verbose=0,
  )
  again = trainer.fit(_ones, epochs=1, steps_per_epoch=20, verbose=0)
  result = {
    "seen": seen,
    "differences": differences,
    "epochs": len(history.epoch),
    "keys": sorted(history.history),
    "last_batch": max(batches),
    "after_again": float(model.get_weights()[0][0, 0]),
    "epochs_again": len(again.epoch),
  }

  class SetRate(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
      self.model.optimizer.learning_rate = 0.125 if batch == 19 else 1.0

  trainer.fit(_ones, steps_per_epoch=20, verbose=0, callbacks=[SetRate()])
  result["last_rate"] = float(model.optimizer.learning_rate)
  # The same optimizer, with another loss and other metrics.
  model.compile(model.optimizer, loss=_constant_loss, metrics=[Examples()])
  logs = trainer.fit(_ones, steps_per_epoch=20, verbose=0).history
  return result | {"new_loss": logs["loss"], "new_metric": logs["examples"]}


def weights_set_meanwhile(strategy):
  """What callbacks set is where workers go on, whenever it was."""
  model = _counting_model()
  trainer = new_trainer(model, strategy, lc_asgd_tf.ASGD(1.0))
  ends = []

  def set_weights(*unused):
    if not calls:
      model.set_weights([np.full_like(w, 1000) for w in model.get_weights()])
    calls.append(None)

  for hook in ("on_train_begin", "on_epoch_begin", "on_test_end"):
    calls = []
    setter = keras.callbacks.LambdaCallback()
    setattr(setter, hook, set_weights)
    trainer.fit(
      _ones,
      epochs=2,
      steps_per_epoch=20,
      validation_data=_ones(),
      callbacks=[setter],
      verbose=0,
    )
    ends.append(sorted({float(w) for w in np.ravel(model.get_weights()[0])}))
  return ends


class _Offset(keras.layers.Layer):
  """Adds a weight that is not trained."""

  def build(self, input_shape):
    self.offset = self.add_weight(
      shape=(), initializer="zeros", trainable=False
    )

  def call(self, inputs):
    return inputs + self.offset


def state_set_meanwhile(strategy):
  """So do weights that are not trained, and frozen ones."""
  frozen = keras.layers.Dense(1, trainable=False)
  model = keras.Sequential(
    [keras.Input((3,)), keras.layers.Dense(1), frozen, _Offset()]
  )
  seen = []

  def set_weights(epoch, logs=None):
    seen.append([float(model.layers[2].offset), float(frozen.bias[0])])
    model.layers[2].offset.assign(epoch + 1)
    frozen.bias.assign([epoch + 10])

  trainer = new_trainer(
    model, strategy, lc_asgd_tf.ASGD(0.0), loss=_linear_loss
  )
  frozen.kernel.assign([[0.0]])
  losses = trainer.fit(
    _ones,
    epochs=3,
    steps_per_epoch=20,
    callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=set_weights)],
    verbose=0,
  ).history["loss"]
  return {"seen": seen, "losses": losses}


def slots_set_meanwhile(strategy):
  """So does what the optimizer remembers, where no weight was touched."""
  model = _counting_model()
  trainer = new_trainer(model, strategy, lc_asgd_tf.ASGD(0.5, momentum=0.5))
  inner = model.optimizer.inner_optimizer

  def reset(epoch, logs=None):
    if epoch == 1:
      inner.iterations.assign(1000)
      for momentum in inner.momentums:
        momentum.assign(np.full(momentum.shape, 64.0))

  trainer.fit(
    _ones,
    epochs=2,
    steps_per_epoch=np.int64(20),
    callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=reset)],
    verbose=0,
  )
  return {
    "iterations": int(model.optimizer.iterations),
    "weight": float(model.get_weights()[1][0]),
  }


def learning_rate_functions(strategy):
  """The coordinator calls what nobody else can."""
  rate = tf.Variable(1.0)
  model = _counting_model()
  trainer = new_trainer(model, strategy, lc_asgd_tf.ASGD(lambda: 2.0 * rate))
  ends = []

  def on_epoch_end(epoch, logs=None):
    ends.append(float(model.get_weights()[1][0]))
    rate.assign(0.5)

  trainer.fit(
    _ones,
    epochs=2,
    steps_per_epoch=20,
    callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)],
    verbose=0,
  )
  model.optimizer.learning_rate = (
    keras.optimizers.schedules.PiecewiseConstantDecay([50], [1.0, 3.0])
  )
  trainer.fit(_ones, steps_per_epoch=20, verbose=0)
  ends.append(float(model.get_weights()[1][0]))
  return {"ends": ends}


def learning_rates_restored(strategy):
  """A callback sets the rate that it had set before something else did."""
  model = _counting_model()
  trainer = new_trainer(model, strategy, lc_asgd_tf.ASGD(1.0))
  ends = []

  def fit(rate):
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: rate)
    trainer.fit(_ones, steps_per_epoch=20, callbacks=[scheduler], verbose=0)
    ends.append(float(model.get_weights()[1][0]))

  fit(1.0)
  with tempfile.TemporaryDirectory() as directory:
    path = trainer.save(os.path.join(directory, "server"))
    fit(3.0)
    trainer.restore(path)
  fit(3.0)
  model.optimizer.learning_rate = 1.0
  fit(3.0)
  return {"ends": ends}


def _constant_loss(y_true, y_pred):
  return 1000.0 + 0.0 * _linear_loss(y_true, y_pred)


def interruptions(strategy):
  """Whatever ends training early, nothing is pushed after it."""
  model = _counting_model()
  trainer = new_trainer(model, strategy, lc_asgd_tf.ASGD(1.0))
  many = 100_000

  class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
      self.model.stop_training = True

  class Interrupt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
      raise KeyboardInterrupt

  def slow_ones():
    # So slow that the coordinator stops them in time, however busy it is.
    return slow_data.delayed(_ones().repeat(), 0.05)

  stopped = trainer.fit(
    slow_ones, epochs=2, steps_per_epoch=many, verbose=0, callbacks=[Stop()]
  )
  after_stop = float(model.get_weights()[1][0])
  at_begin = trainer.fit(
    slow_ones,
    epochs=2,
    steps_per_epoch=many,
    verbose=0,
    callbacks=[
      keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: setattr(model, "stop_training", True)
      )
    ],
  )

  def interrupted():
    try:
      trainer.fit(
        slow_ones, steps_per_epoch=many, verbose=0, callbacks=[Interrupt()]
      )
    except KeyboardInterrupt:
      return True
    return False

  was_interrupted = interrupted()
  # While workers are amid a dispatch of a quarter of a second.
  _ = trainer.checkpoint
  saved = trainer.reports()[1]
  time.sleep(0.5)
  after_save = trainer.reports()[1] - saved
  before = float(model.get_weights()[1][0])
  counts = _counts(
    trainer, trainer.fit(_ones, steps_per_epoch=20, verbose=0).history
  )
  moved = float(model.get_weights()[1][0]) - before
  with tempfile.TemporaryDirectory() as directory:
    path = trainer.save(os.path.join(directory, "server"))
    saved = trainer.reports()[1]
    was_interrupted &= interrupted()
    trainer.restore(path)
  time.sleep(0.5)
  return {
    "stopped_pushes": stopped.history["pushes"],
    "after_stop": after_stop,
    "stopped_at_begin": at_begin.history["pushes"],
    "interrupted": was_interrupted,
    "after_save": after_save,
    "after_restore": trainer.reports()[1] - saved,
    "pushes": counts["pushes"],
    "worker_steps": counts["worker_steps"],
    "moved": moved,
  }


def checkpoints(strategy):
  """A checkpoint brings back weights, slots, versions; a model its slots."""
  model = _counting_model()
  trainer = new_trainer(model, strategy, lc_asgd_tf.LCASGD(0.01, momentum=0.9))
  trainer.fit(_ones, steps_per_epoch=30, verbose=0)
  with tempfile.TemporaryDirectory() as directory:
    saved = model.get_weights()
    slots = [v.numpy() for v in model.optimizer.inner_optimizer.variables]
    path = trainer.save(os.path.join(directory, "server"))
    keras_path = os.path.join(directory, "model.keras")
    model.save(keras_path)
    loaded = keras.models.load_model(
      keras_path, custom_objects={"_linear_loss": _linear_loss}
    )
    trainer.fit(_ones, steps_per_epoch=30, verbose=0)
    moved = model.get_weights()
    # Compiled anew, there is another server, which a checkpoint is then of.
    callback = lc_asgd_tf.callbacks.ServerCheckpoint(
      trainer, os.path.join(directory, "latest")
    )
    callback.on_epoch_end(0)
    model.compile(lc_asgd_tf.LCASGD(0.01, momentum=0.9), loss=_linear_loss)
    trainer.fit(_ones, steps_per_epoch=30, verbose=0, callbacks=[callback])
    latest = model.get_weights()
    model.set_weights([np.zeros_like(w) for w in latest])
    callback.restore_latest()
    restored_latest = all(map(np.array_equal, latest, model.get_weights()))
    learned = int(trainer._remote._learned)
    # As a callback may do before this one, at the end of an epoch.
    model.optimizer.learning_rate = 0.001
    callback.on_epoch_end(1)
    callback.restore_latest()
    rate = float(model.optimizer.learning_rate)
    trainer.restore(path)
    restored_slots = model.optimizer.inner_optimizer.variables
    other = new_trainer(_normalized_model(), strategy, lc_asgd_tf.ASGD(0.1))
    other.build(_ones)
    try:
      other.restore(path)
      error = ""
    except ValueError as raised:
      error = str(raised)
    damaged = []
    for name in ("data-00000-of-00001", "index"):
      whole = pathlib.Path(f"{path}.{name}").read_bytes()
      for rest in (whole[: len(whole) // 2], b"", whole[::-1]):
        pathlib.Path(f"{path}.{name}").write_bytes(rest)
        try:
          trainer.restore(path)
          damaged.append("")
        except errors_lib.DamagedError as raised:
          damaged.append(str(raised))
      pathlib.Path(f"{path}.{name}").write_bytes(whole)
    trainer.restore(path)
  return {
    "damaged": damaged,
    "restored_latest": restored_latest,
    "learned": learned,
    "learning_rate": rate,
    "moved": not np.array_equal(saved[0], moved[0]),
    "restored": all(map(np.array_equal, saved, model.get_weights())),
    "restored_slots": all(
      np.array_equal(a, b.numpy())
      for a, b in zip(slots, restored_slots, strict=True)
    ),
    "version": int(trainer._remote._server.ledger.version.numpy()),
    "loaded": all(map(np.array_equal, saved, loaded.get_weights())),
    "loaded_iterations": int(loaded.optimizer.iterations.numpy()),
    "loaded_class": type(loaded.optimizer).__name__,
    "error": error,
  }


def errors(strategy):
  """Returns the message of everything that must be refused."""
  found = {}

  def attempt(name, function):
    try:
      function()
      found[name] = "nothing was raised"
    except (TypeError, ValueError) as error:
      found[name] = f"{type(error).__name__}: {error}"

  def compiled(optimizer="sgd", loss="mse", model=None):
    model = model or _counting_model()
    model.compile(optimizer=optimizer, loss=loss)
    return lc_asgd_tf.AsyncTrainer(model, strategy)

  class OwnStep(keras.Model):
    def train_step(self, data):
      return {}

  inputs = keras.Input((3,))
  own = OwnStep(inputs, keras.layers.Dense(1)(inputs))
  asgd = lc_asgd_tf.ASGD
  attempt(
    "not compiled",
    lambda: lc_asgd_tf.AsyncTrainer(_counting_model(), strategy),
  )
  attempt(
    "python generator",
    lambda: compiled(asgd()).fit(
      lambda: tf.data.Dataset.from_generator(
        lambda: [(np.ones(3), np.ones(1))],
        output_signature=(tf.TensorSpec((3,)), tf.TensorSpec((1,))),
      ).batch(1),
      steps_per_epoch=1,
    ),
  )
  attempt(
    "no loss",
    lambda: compiled(asgd(), loss=None).fit(_ones, steps_per_epoch=1),
  )
  attempt("stock optimizer", lambda: compiled("sgd"))
  attempt("simulation", lambda: compiled(asgd(num_workers=4)))
  attempt("train_step", lambda: compiled(asgd(), model=own))
  shared = keras.layers.BatchNormalization()
  left, right = keras.Input((3,)), keras.Input((3,))
  twice = keras.Model(
    [left, right],
    keras.layers.Dense(1)(keras.layers.Add()([shared(left), shared(right)])),
  )

  def pairs():
    x = np.ones((BATCH, 3), np.float32)
    return tf.data.Dataset.from_tensors(((x, x), x[:, :1]))

  attempt(
    "shared normalization",
    lambda: compiled(asgd(), model=twice).fit(pairs, steps_per_epoch=1),
  )
  attempt(
    "strategy",
    lambda: lc_asgd_tf.AsyncTrainer(
      _counting_model(), tf.distribute.get_strategy()
    ),
  )
  attempt("data set", lambda: compiled(asgd()).fit(_ones()))
  attempt("not a data set", lambda: compiled(asgd()).fit(lambda: 3))
  attempt("endless", lambda: compiled(asgd()).fit(lambda: _ones().repeat()))
  attempt("steps", lambda: compiled(asgd()).fit(_ones, steps_per_epoch=0))
  attempt(
    "batches",
    lambda: compiled(asgd()).fit(
      _ones,
      steps_per_epoch=1,
      callbacks=[keras.callbacks.ModelCheckpoint("x.keras", save_freq=10)],
    ),
  )

  attempt(
    "generator",
    lambda: compiled(asgd()).fit(
      _ones, steps_per_epoch=1, validation_data=iter([(1, 1)])
    ),
  )

  def trainer_of(model, optimizer=None, **compile_kwargs):
    model.compile(optimizer or asgd(), loss="mse", **compile_kwargs)
    return lc_asgd_tf.AsyncTrainer(model, strategy)

  attempt("eagerly", lambda: trainer_of(_counting_model(), run_eagerly=True))

  class Largest(keras.metrics.Metric):
    def __init__(self):
      super().__init__(name="largest")
      self.value = self.add_variable(
        (), "zeros", aggregation="mean", name="value"
      )

    def update_state(self, y_true, y_pred, sample_weight=None):
      self.value.assign(tf.reduce_max(y_pred))

    def result(self):
      return self.value

  attempt(
    "metric",
    lambda: trainer_of(_counting_model(), metrics=[Largest()]).fit(
      _ones, steps_per_epoch=1
    ),
  )

  class Late(keras.Model):
    def __init__(self, *args):
      super().__init__(*args)
      self.late = keras.metrics.F1Score(name="late")

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
      self.late.update_state(y, y_pred)
      return self.get_metrics_result()

  late = Late(inputs, keras.layers.Dense(1)(inputs))
  attempt(
    "late metric",
    lambda: compiled(asgd(), model=late).fit(_ones, steps_per_epoch=1),
  )

  def freeze():
    model = _counting_model()
    model.trainable = False
    compiled(asgd(), model=model).fit(_ones, steps_per_epoch=1)

  attempt("nothing to train", freeze)
  attempt("epochs", lambda: compiled(asgd()).fit(_ones, epochs="3"))

  def unfreeze():
    model, optimizer = _counting_model(), asgd(0.1, momentum=0.9)
    model.layers[1].trainable = False
    trainer_of(model, optimizer).fit(_ones, steps_per_epoch=3, verbose=0)
    model.layers[1].trainable = True
    trainer_of(model, optimizer).fit(_ones, steps_per_epoch=3, verbose=0)

  attempt("unfrozen", unfreeze)

  class OwnEntries(keras.Model):
    def compute_metrics(self, x, y, y_pred, sample_weight=None):
      return super().compute_metrics(x, y, y_pred, sample_weight) | {
        "mine": tf.reduce_mean(y_pred)
      }

  inputs = keras.Input((3,))
  entries = OwnEntries(inputs, keras.layers.Dense(1)(inputs))
  attempt(
    "entries",
    lambda: compiled(asgd(), model=entries).fit(_ones, steps_per_epoch=1),
  )
  attempt(
    "global_clipnorm",
    lambda: compiled(asgd(0.1, global_clipnorm=1.0)).fit(
      _ones, steps_per_epoch=1
    ),
  )

  def inner(optimizer):
    return lc_asgd_tf.AsyncOptimizer(optimizer)

  attempt(
    "unnamed slots",
    lambda: compiled(inner(keras.optimizers.Adafactor())).fit(
      _ones, steps_per_epoch=1
    ),
  )
  if hasattr(keras.optimizers, "MultiOptimizer"):
    several = keras.optimizers.MultiOptimizer(lambda v: keras.optimizers.SGD())
    attempt("several learning rates", lambda: compiled(inner(several)))

  def ends_with(layer, inputs=(3,)):
    return keras.Sequential(
      [keras.Input(inputs, batch_size=BATCH), layer, keras.layers.Dense(1)]
    )

  attempt(
    "assigned weight",
    lambda: compiled(
      asgd(),
      model=ends_with(
        keras.layers.SpectralNormalization(keras.layers.Dense(2))
      ),
    ).fit(_ones, steps_per_epoch=1),
  )

  def sequences():
    return _ones().map(lambda x, y: (x[:, :, tf.newaxis], y))

  attempt(
    "assigned state",
    lambda: compiled(
      asgd(),
      model=ends_with(keras.layers.SimpleRNN(2, stateful=True), (3, 1)),
    ).fit(sequences, steps_per_epoch=1),
  )
  attempt(
    "no data",
    lambda: compiled(asgd()).fit(lambda: _ones().take(0), steps_per_epoch=6),
  )

  def records(path):
    return tf.data.TFRecordDataset(path).map(
      lambda record: (tf.ones([BATCH, 3]), tf.ones([BATCH, 1]))
    )

  with tempfile.TemporaryDirectory() as folder:
    damaged = pathlib.Path(folder, "damaged")
    damaged.write_bytes(bytes(100))
    for file in ("missing", "damaged"):
      path = os.path.join(folder, file)
      attempt(
        f"{file} file",
        lambda path=path: compiled(asgd()).fit(
          lambda: records(path), steps_per_epoch=6
        ),
      )

    there = pathlib.Path(folder, "there")
    there.write_bytes(b"1")

    def only_on_the_coordinator():
      value = tf.strings.to_number(tf.io.read_file(os.fspath(there)))
      there.unlink(missing_ok=True)
      return _ones().map(lambda x, y: (x, y * value))

    attempt(
      "file that is nowhere else",
      lambda: compiled(asgd()).fit(only_on_the_coordinator, steps_per_epoch=6),
    )
  return found


def seeds(strategy):
  """The seed that everybody sets, and data that every worker shuffles."""
  keras.utils.set_random_seed(0)

  def dataset_fn(context):
    return _ones().shuffle(2, seed=context.input_pipeline_id + 1)

  model = _counting_model()
  trainer = new_trainer(model, strategy, lc_asgd_tf.ASGD(1.0))
  trainer.fit(dataset_fn, steps_per_epoch=10, verbose=0)
  return {"iterations": int(model.optimizer.iterations)}


def _replace_worker(cluster):
  """Kills the worker, and starts another in its place."""
  pids = [t.process.pid for t in _REPLACEMENTS] or [cluster.pids["worker 0"]]
  os.kill(pids[-1], signal.SIGKILL)
  # It ends with this process, too.
  machine = resources.Machine.detect(os.environ)
  _REPLACEMENTS.append(cluster._spawn(machine, "worker", 0))


def preempted(strategy, cluster):
  """A worker is gone after an epoch, and comes back with other data."""

  def dataset_fn(context):
    data = tf.data.Dataset.from_tensors(tf.cast(context.pushes, tf.float32))
    return data.map(lambda pushes: (tf.ones([3]), pushes[None])).batch(1)

  class Preempt(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
      if epoch == 1:
        _replace_worker(cluster)

  def loss(y_true, y_pred):
    return tf.reduce_mean(y_true + 0.0 * y_pred, axis=-1)

  model = _counting_model()
  trainer = new_trainer(model, strategy, lc_asgd_tf.ASGD(1.0), loss=loss)
  history = trainer.fit(
    dataset_fn, epochs=3, steps_per_epoch=20, callbacks=[Preempt()], verbose=0
  )
  return {"loss": history.history["loss"], "pushes": trainer.reports()[1]}


def result_on_its_way(strategy, cluster):
  """A worker dies, and is back, between a result's announcement and itself."""
  model = _counting_model()
  trainer = new_trainer(model, strategy, lc_asgd_tf.ASGD(1.0))
  trainer.fit(_ones, steps_per_epoch=20, verbose=0)
  announce = values.RemoteValueImpl._set_values
  announced = []

  def die_first(result, tensors):
    announced.append(result)
    if len(announced) == 4:
      _replace_worker(cluster)
    announce(result, tensors)

  with mock.patch.object(values.RemoteValueImpl, "_set_values", die_first):
    trainer.fit(_ones, steps_per_epoch=40, verbose=0)
  return {"pushes": trainer.reports()[1], "announced": len(announced)}


def amid_a_dispatch(strategy, cluster):
  """A worker dies when it has done some of its steps."""

  def dataset_fn():
    return slow_data.delayed(_ones().repeat(), tf.constant(0.005))

  model = _counting_model()
  trainer = new_trainer(
    model, strategy, lc_asgd_tf.ASGD(1.0), steps_per_dispatch=200
  )
  trainer.build(dataset_fn)
  pushes = []

  def replace_worker():
    while not pushes or pushes[-1] < 50:
      pushes.append(trainer.reports()[1])
    _replace_worker(cluster)

  thread = threading.Thread(target=replace_worker)
  thread.start()
  trainer.fit(dataset_fn, steps_per_epoch=400, verbose=0)
  thread.join()
  return {
    "at_death": pushes[-1],
    "pushes": trainer.reports()[1],
    "bias": model.get_weights()[1].tolist(),
  }


def calls(strategy, cluster):
  """Counts the tensors that tasks have asked each other for in a loop."""

  def counted():
    return sum(
      pathlib.Path(cluster._log_dir, f"{task}_0.log")
      .read_text()
      .count(";edge_")
      for task in ("worker", "ps")
    )

  counts = {}
  for rule in (lc_asgd_tf.ASGD, lc_asgd_tf.LCASGD):
    trainer = new_trainer(
      _counting_model(), strategy, rule(0.01), steps_per_dispatch=STEPS
    )
    trainer.fit(_ones, steps_per_epoch=STEPS, verbose=0)
    before = counted()
    trainer.fit(_ones, steps_per_epoch=STEPS, verbose=0)
    counts[rule.__name__] = counted() - before
  return counts


def lessons(strategy):
  """Predictors learn while workers push and the model is read."""
  trainer = new_trainer(_counting_model(), strategy, lc_asgd_tf.LCASGD(0.01))
  trainer.fit(_ones, epochs=3, steps_per_epoch=STEPS, verbose=0)
  return {
    "learned": int(trainer._remote._learned),
    "main_thread": threading.get_native_id(),
  }


def _traveled(trainer):
  """Returns how many numbers the messages of a push have."""
  messages, *_ = trainer._remote.push.structured_input_signature[0]
  return sum(spec.shape[0] for spec in messages)


def unusual_models(strategy):
  """What Keras takes as well: own losses, layers frozen in between."""

  class OwnLoss(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
      return tf.reduce_mean(_linear_loss(y, y_pred))

  inputs = keras.Input((3,))
  outputs = keras.layers.Dense(1, kernel_initializer="zeros")(inputs)
  model = OwnLoss(inputs, outputs)
  trainer = new_trainer(model, strategy, lc_asgd_tf.ASGD(1.0), loss=None)
  trainer.fit(_ones, steps_per_epoch=10, verbose=0)
  own_loss = model.get_weights()[1].tolist()

  embedding = keras.Sequential(
    [
      keras.Input((3,), dtype="int32"),
      keras.layers.Embedding(5, 1, embeddings_initializer="zeros"),
      keras.layers.Flatten(),
    ]
  )
  scaled = lc_asgd_tf.AsyncOptimizer(
    keras.optimizers.SGD(1.0, loss_scale_factor=8.0)
  )
  trainer = new_trainer(embedding, strategy, scaled)
  trainer.fit(_ones, steps_per_epoch=10, verbose=0)

  model = keras.Sequential(
    [
      keras.Input((3,)),
      keras.layers.LayerNormalization(),
      keras.layers.BatchNormalization(),
      keras.layers.Dense(1),
    ]
  )
  optimizer = lc_asgd_tf.ASGD(0.001, momentum=0.9)
  trainer = new_trainer(model, strategy, optimizer, loss="mse")

  def dataset_fn():
    x = np.array([[0, 1, 2], [2, 1, 5], [4, 9, 4], [2, 2, 8]], np.float32)
    return tf.data.Dataset.from_tensors((x, x[:, :1]))

  trainer.fit(dataset_fn, steps_per_epoch=STEPS, verbose=0)
  normalization = model.layers[1]
  before = normalization.moving_variance.numpy()
  # As in Keras, it counts when the model is compiled.
  model.layers[0].trainable = False
  trainer.fit(dataset_fn, steps_per_epoch=10, verbose=0)
  moved = np.abs(normalization.moving_variance.numpy() / before - 1).max()
  frozen = model.layers[0].get_weights()
  traveled = _traveled(trainer)
  model.compile(optimizer=optimizer, loss="mse")
  trainer.fit(dataset_fn, steps_per_epoch=10, verbose=0)
  return {
    "freezing_spares": traveled - _traveled(trainer),
    "own_loss": own_loss,
    "embedding": np.ravel(embedding.get_weights()[0]).tolist(),
    "statistics_moved": float(moved),
    "frozen": all(map(np.array_equal, frozen, model.layers[0].get_weights())),
    "iterations": int(optimizer.iterations),
  }


def _three_classes():
  """Returns 8 batches of 8 examples with 6 features, always the same."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(64, 6)).astype(np.float32)
  y = rng.integers(0, 3, size=64)
  return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)


def arguments(strategy):
  """What `fit` is given does what it does in Keras."""

  def model():
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])

  class Notes(keras.callbacks.Callback):
    """Of what callbacks are told."""

    def on_train_begin(self, logs=None):
      self.told = dict(self.params)

    def on_train_end(self, logs=None):
      self.last = logs

  kwargs = {
    "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "weighted_metrics": ["accuracy"],
  }
  (batches,) = _three_classes().batch(8)
  fit = {
    "class_weight": {0: 3.0, 1: 0.25, 2: 1.0},
    "epochs": 9,
    "steps_per_epoch": 9,
    "validation_data": tuple(np.reshape(t, (64, -1)) for t in batches),
    "validation_freq": 2,
    "validation_batch_size": 10,
    "validation_steps": 3,
    "verbose": 0,
  }
  inner = functools.partial(
    keras.optimizers.SGD, 0.1, use_ema=True, ema_momentum=0.8
  )
  reference, ours = model(), model()
  notes = {"expected_": Notes(), "": Notes()}
  keras.config.set_max_epochs(4)
  keras.config.set_max_steps_per_epoch(8)
  reference.compile(inner(), **kwargs)
  expected = reference.fit(
    _three_classes().repeat(), callbacks=[notes["expected_"]], **fit
  ).history
  trainer = new_trainer(
    ours, strategy, lc_asgd_tf.AsyncOptimizer(inner()), **kwargs
  )
  history = trainer.fit(_three_classes, callbacks=[notes[""]], **fit).history
  keras.config.set_max_epochs(None)
  keras.config.set_max_steps_per_epoch(None)
  results = {"names": sorted(expected)}
  for prefix, trained, logs in (
    ("expected_", reference, expected),
    ("", ours, history),
  ):
    results |= {
      f"{prefix}weights": [w.tolist() for w in trained.get_weights()],
      f"{prefix}logs": [logs[name] for name in sorted(expected)],
      f"{prefix}last": [
        notes[prefix].last[name] for name in sorted(notes["expected_"].last)
      ],
      f"{prefix}told": notes[prefix].told,
    }
  return results


def sequential(strategy):
  """One worker is never late: it must equal plain Keras, step for step.

  Also where a run is interrupted and continues, where it begins without the
  cluster, where layers share a name, and where the loss does not depend on one.
  """

  def model():
    keras.utils.set_random_seed(3)
    return Twins(
      [
        keras.layers.Dense(16, "relu", kernel_regularizer="l2", name="twin"),
        keras.layers.BatchNormalization(momentum=0.9),
        keras.layers.Dropout(0.3, seed=5),
        keras.layers.Dense(16, trainable=False),
        keras.layers.Dense(16, name="twin"),
        keras.layers.Dense(16, name="twin"),
        keras.layers.Dense(3),
      ]
    )

  compile_kwargs = {
    "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "metrics": ["accuracy"],
  }
  inner = {
    "momentum": lambda: keras.optimizers.SGD(0.1, 0.9, clipnorm=1.0),
    # It has a variable without a name that belongs to no weight, and here none
    # of the learning rate.
    "nadam": lambda: keras.optimizers.Nadam(lambda: 0.01, weight_decay=0.1),
    "schedule": lambda: keras.optimizers.SGD(
      keras.optimizers.schedules.ExponentialDecay(0.2, 4, 0.5), 0.9
    ),
  }
  rules = {
    "asgd": compensation.Uncompensated,
    "dc_asgd_a": compensation.DelayCompensatedAdaptive,
    "lc_asgd": compensation.LossCompensated,
  }
  fits = {
    "asgd": _begin_without_cluster,
    "dc_asgd_a": _crash_and_continue,
    "lc_asgd": _fit_once,
  }
  # Every rule, and every inner optimizer, once.
  cases = [
    ("asgd", "schedule"),
    ("dc_asgd_a", "momentum"),
    ("lc_asgd", "nadam"),
  ]
  # XLA draws other numbers for dropout.
  compiled = {"schedule"}
  references = {}
  for name in inner:
    reference = model()
    reference.compile(
      optimizer=inner[name](), jit_compile=name in compiled, **compile_kwargs
    )
    history = reference.fit(
      _three_classes(), epochs=3, shuffle=False, verbose=0
    ).history
    references[name] = (_state(reference, reference.optimizer), history)
  results = {}
  for rule, name in cases:
    ours = model()
    optimizer = lc_asgd_tf.AsyncOptimizer(inner[name](), rules[rule]())
    trainer = new_trainer(
      ours,
      strategy,
      optimizer,
      jit_compile=name in compiled,
      **compile_kwargs,
    )
    histories = fits[rule](ours, trainer, _three_classes)
    history = {
      key: [value for part in histories for value in part.get(key, [])]
      for key in histories[-1]
    }
    state, expected = references[name]
    results[f"{rule} {name}"] = {
      "state": max(
        float(np.max(np.abs(a.astype(float) - b.astype(float))))
        for a, b in zip(
          state, _state(ours, optimizer.inner_optimizer), strict=True
        )
      ),
      "loss": float(
        np.max(np.abs(np.subtract(expected["loss"], history["loss"])))
      ),
      "accuracy": float(
        np.max(np.abs(np.subtract(expected["accuracy"], history["accuracy"])))
      ),
      "staleness_max": max(history["staleness_max"]),
    }
  return results


class Twins(keras.Model):
  """Layers one after another, some of which share a name, and one beside."""

  def __init__(self, parts):
    super().__init__()
    self.parts = parts
    self.beside = keras.layers.Dense(2)
    self.beside.build((None, 3))

  def call(self, x, training=None):
    for part in self.parts:
      if isinstance(part, keras.layers.Dense):
        x = part(x)
      else:
        x = part(x, training=training)
    return x


def _fit_once(model, trainer, dataset_fn):
  """Trains for three epochs; returns the histories."""
  del model
  return [trainer.fit(dataset_fn, epochs=3, verbose=0).history]


def _begin_without_cluster(model, trainer, dataset_fn):
  """So that the cluster finds slots, iterations and statistics."""
  first = model.fit(dataset_fn(), epochs=1, shuffle=False, verbose=0)
  rest = trainer.fit(dataset_fn, initial_epoch=1, epochs=3, verbose=0)
  return [first.history, rest.history]


def _crash_and_continue(model, trainer, dataset_fn):
  """As if the coordinator had been killed after two epochs."""

  class Crash(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
      if epoch == 2:
        raise ChildProcessError

  with tempfile.TemporaryDirectory() as directory:
    trainer.build(dataset_fn)
    backup = [keras.callbacks.BackupAndRestore(directory)]
    try:
      trainer.fit(dataset_fn, epochs=3, callbacks=[*backup, Crash()], verbose=0)
    except ChildProcessError:
      first = model.history.history
    # Keras does not save the state of dropout's random numbers.
    for variable in (*model.trainable_weights, *model.optimizer.variables):
      variable.assign(tf.zeros_like(variable.value))
    rest = trainer.fit(dataset_fn, epochs=3, callbacks=backup, verbose=0)
  return [first, rest.history]


def _state(model, optimizer):
  """Returns the values of all weights and of the optimizer's variables."""
  return [*model.get_weights(), *(v.numpy() for v in optimizer.variables)]
