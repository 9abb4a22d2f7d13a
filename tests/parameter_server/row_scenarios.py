"""What happens to tables on the clusters; plain values for the tests."""

import os
import tempfile

import keras
import numpy as np
import tensorflow as tf

import lc_asgd_tf
from tests.parameter_server import scenarios

# Every batch reads one row twice and one row that no other worker reads.
ROW = 5
OWN_ROW = 10


def _model(**kwargs):
  return keras.Sequential(
    [
      keras.Input((3,), dtype="int32"),
      lc_asgd_tf.layers.SparseEmbedding(
        40, 2, embeddings_initializer="zeros", **kwargs
      ),
      keras.layers.Flatten(),
    ]
  )


def _ids(context):
  worker = tf.cast(context.input_pipeline_id, tf.int32)
  ids = tf.tile([[ROW, ROW, 0]], [scenarios.BATCH, 1])
  ids += [0, 0, OWN_ROW + worker]
  return tf.data.Dataset.from_tensors((ids, tf.ones([scenarios.BATCH, 1])))


def counts(strategy):
  """Every push moves the rows that its batch reads by exactly -1 per read."""
  model = _model()
  trainer = scenarios.new_trainer(model, strategy, lc_asgd_tf.ASGD(1.0))
  history = trainer.fit(_ids, steps_per_epoch=scenarios.STEPS, verbose=0)
  (table,) = trainer._remote._server.tables
  return {
    "weights": model.get_weights()[0].tolist(),
    "iterations": int(table.optimizer.iterations.numpy()),
    "model_iterations": int(model.optimizer.iterations.numpy()),
    "staleness_max": history.history["staleness_max"][-1],
  }


def state(strategy):
  """LC-ASGD reads and writes MS, slots and the sums over the rows."""
  model = _model()
  trainer = scenarios.new_trainer(
    model, strategy, lc_asgd_tf.LCASGD(0.001, momentum=0.9)
  )
  trainer.fit(_ids, steps_per_epoch=scenarios.STEPS, verbose=0)
  (table,) = trainer._remote._server.tables
  (moments,) = (v for v in table.variables if "second_moment" in v.name)
  moments = moments.numpy().tolist()
  slots = model.optimizer.inner_optimizer.variables
  (velocity,) = (v for v in slots if v.name.endswith("momentum"))
  velocity = velocity.numpy().tolist()
  with tempfile.TemporaryDirectory() as directory:
    path = trainer.save(os.path.join(directory, "server"))
    saved = [v.numpy() for v in (*model.weights, *slots)]
    trainer.fit(_ids, steps_per_epoch=9, verbose=0)
    moved = not np.array_equal(saved[0], model.get_weights()[0])
    trainer.restore(path)
  return {
    "second_moments": moments,
    "velocity": velocity,
    "moved": moved,
    "restored": [
      np.array_equal(a, b.numpy())
      for a, b in zip(saved, (*model.weights, *slots), strict=True)
    ],
  }


def narrow(strategy):
  """Workers pull rows in 16 bits, beside weights that are pulled whole.

  Among these is a table that is not trained.
  """
  inputs = keras.Input((3,), dtype="int32")
  table = lc_asgd_tf.layers.SparseEmbedding(
    40, 2, embeddings_initializer="zeros"
  )
  frozen = lc_asgd_tf.layers.SparseEmbedding(
    40, 2, embeddings_initializer="ones", trainable=False
  )
  both = keras.layers.Add()([table(inputs), frozen(inputs)])
  outputs = keras.layers.Dense(1)(keras.layers.Flatten()(both))
  model = keras.Model(inputs, outputs)
  trainer = scenarios.new_trainer(
    model, strategy, lc_asgd_tf.LCASGD(0.01), pull_dtype="bfloat16"
  )
  trainer.fit(_ids, steps_per_epoch=60, verbose=0)
  moved = table.get_weights()[0].any(axis=1)
  return {
    "rows": np.flatnonzero(moved).tolist(),
    "frozen": bool(np.all(frozen.get_weights()[0] == 1.0)),
  }


def mixed(strategy):
  """Under mixed precision, and with ids of any sign, as Keras trains it."""
  ids = np.array([[0, 1], [2, -1], [-40, 5]] * 8)

  def dataset_fn():
    return tf.data.Dataset.from_tensors((ids, np.ones(24, "float32"))).repeat()

  tables = []
  for layer in (keras.layers.Embedding, lc_asgd_tf.layers.SparseEmbedding):
    keras.utils.set_random_seed(0)
    table = layer(40, 2, dtype="mixed_bfloat16")
    model = keras.Sequential(
      [
        keras.Input((2,), dtype="int64"),
        table,
        keras.layers.Flatten(),
        keras.layers.Dense(1),
      ]
    )
    trainer = scenarios.new_trainer(model, strategy, lc_asgd_tf.ASGD(0.1))
    trainer.fit(dataset_fn, steps_per_epoch=3, verbose=0)
    tables.append(table.get_weights()[0])
  return float(np.abs(tables[0] - tables[1]).max())


def out_of_range(strategy):
  """An id beyond the table ends training; the next one begins as ever."""

  def fit(ids):
    model = keras.Sequential(
      [
        keras.Input((1,), dtype="int64"),
        lc_asgd_tf.layers.SparseEmbedding(40, 2),
        keras.layers.Flatten(),
        keras.layers.Dense(1),
      ]
    )
    trainer = scenarios.new_trainer(model, strategy, lc_asgd_tf.ASGD(0.1))

    def dataset_fn():
      pair = np.full([4, 1], ids, np.int64), np.ones(4, "float32")
      return tf.data.Dataset.from_tensors(pair).repeat()

    return trainer.fit(dataset_fn, steps_per_epoch=2, verbose=0).history

  errors_of = {}
  for name, ids in {"beyond": 40, "beyond 32 bits": 2**32 + 5}.items():
    try:
      fit(ids)
      errors_of[name] = "nothing was raised"
    except tf.errors.InvalidArgumentError as error:
      errors_of[name] = str(error)
    errors_of[f"pushes after {name}"] = fit(5)["pushes"]
  return errors_of


def errors(strategy):
  """Returns the message of everything that must be refused."""
  inputs = keras.Input((3,), dtype="int32")
  layer = lc_asgd_tf.layers.SparseEmbedding(40, 2)
  twice = keras.layers.Add()([layer(inputs), layer(inputs)])
  cases = {
    "read twice": (
      keras.Model(inputs, keras.layers.Flatten()(twice)),
      lc_asgd_tf.ASGD(),
    ),
    "regularized": (_model(embeddings_regularizer="l2"), lc_asgd_tf.ASGD()),
    "lora": (_model(lora_rank=1), lc_asgd_tf.ASGD()),
    "dana": (_model(), lc_asgd_tf.DANA()),
    "clipped": (
      _model(embeddings_constraint="NonNeg"),
      lc_asgd_tf.ASGD(0.1, clipnorm=1.0),
    ),
  }
  found = {}
  for name, (model, optimizer) in cases.items():
    trainer = scenarios.new_trainer(model, strategy, optimizer)
    try:
      trainer.fit(_ids, steps_per_epoch=1, verbose=0)
      found[name] = "nothing was raised"
    except ValueError as error:
      found[name] = f"{type(error).__name__}: {error}"
  return found


def sequential(strategy):
  """With plain SGD, rows that are pushed equal a table that is trained."""
  generator = np.random.default_rng(0)
  x = generator.integers(0, 1000, (64, 10)).astype(np.int32)
  y = generator.integers(0, 3, 64)

  def dataset_fn():
    # The last batch is shorter than the others.
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(24)

  weights = []
  for local in (True, False):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
      [
        keras.Input((10,), dtype="int32"),
        lc_asgd_tf.layers.SparseEmbedding(1000, 4, mask_zero=True),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(3),
      ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if local:
      model.compile(keras.optimizers.SGD(0.5), loss)
      model.fit(dataset_fn(), epochs=3, shuffle=False, verbose=0)
    else:
      trainer = scenarios.new_trainer(
        model, strategy, lc_asgd_tf.LCASGD(0.5), loss
      )
      trainer.fit(dataset_fn, epochs=3, verbose=0)
    weights.append(model.get_weights())
  return [float(np.max(np.abs(a - b))) for a, b in zip(*weights, strict=True)]
