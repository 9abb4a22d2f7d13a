"""Tests for the sparse embedding off the cluster."""

import os

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest

from lc_asgd_tf import layers

_ROWS = 7
_WIDTH = 3


def _model(layer_class):
  keras.utils.set_random_seed(0)
  return keras.Sequential(
    [
      keras.Input((4,), dtype="int32"),
      layer_class(_ROWS, _WIDTH, mask_zero=True),
      keras.layers.GlobalAveragePooling1D(),
      keras.layers.Dense(1),
    ]
  )


def _data():
  generator = np.random.default_rng(0)
  return generator.integers(0, _ROWS, (32, 4)), generator.normal(size=(32, 1))


class SparseEmbeddingTest(absltest.TestCase):
  def test_is_an_embedding_off_the_cluster(self):
    weights = []
    for layer_class in (keras.layers.Embedding, layers.SparseEmbedding):
      model = _model(layer_class)
      model.compile(keras.optimizers.Adam(0.1), "mse")
      model.fit(*_data(), batch_size=8, epochs=2, shuffle=False, verbose=0)
      weights.append(model.get_weights())
    for expected, actual in zip(*weights, strict=True):
      np.testing.assert_array_equal(actual, expected)

  def test_is_saved_with_its_model(self):
    model = _model(layers.SparseEmbedding)
    path = os.path.join(self.create_tempdir().full_path, "model.keras")
    model.save(path)
    loaded = keras.models.load_model(path)
    self.assertIsInstance(loaded.layers[0], layers.SparseEmbedding)
    x, _ = _data()
    np.testing.assert_array_equal(loaded(x), model(x))

  def test_is_left_out_of_what_xla_compiles(self):
    model = _model(layers.SparseEmbedding)
    with self.assertWarnsRegex(UserWarning, "jit_compile"):
      model.compile("sgd", "mse", jit_compile=True)
    self.assertFalse(model.jit_compile)

  def test_asks_who_looks_up(self):
    layer = layers.SparseEmbedding(_ROWS, _WIDTH)
    layer.build()
    asked = []

    def look_up(table, ids):
      asked.append((table, ids.numpy().tolist()))
      return tf.ones([*ids.shape, _WIDTH])

    with layers.looking_up(look_up):
      rows = layer(np.array([[1, 2]]))
    np.testing.assert_array_equal(rows, np.ones((1, 2, _WIDTH)))
    self.assertIs(asked[0][0], layer.embeddings)
    self.assertEqual(asked[0][1], [[1, 2]])
    # No longer asked.
    np.testing.assert_array_equal(
      layer(np.array([1])), layer.embeddings.numpy()[1:2]
    )

  def test_the_inner_of_two_answers(self):
    def of(value):
      return lambda table, ids: tf.fill([*ids.shape, _WIDTH], value)

    layer = layers.SparseEmbedding(_ROWS, _WIDTH)
    layer.build()
    with layers.looking_up(of(1.0)):
      with layers.looking_up(of(2.0)):
        inner = layer(np.array([0]))
      outer = layer(np.array([0]))
    np.testing.assert_array_equal(inner, np.full((1, _WIDTH), 2.0))
    np.testing.assert_array_equal(outer, np.full((1, _WIDTH), 1.0))


if __name__ == "__main__":
  absltest.main()
