"""Tests for Async-BN and other state that gradients do not train."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf import normalization
from lc_asgd_tf.normalization import Kind


class MergeTest(parameterized.TestCase):
  def test_moving_statistic_by_hand(self):
    # Pulled 2, batch 6, momentum 0.75: 1.5 + 1.5 returned, 1.5 sent.
    sent = normalization.contribution(
      Kind.MOVING_STATISTIC, 0.75, tf.constant([2.0]), tf.constant([3.0])
    )
    np.testing.assert_array_equal(sent, [1.5])
    # The server has come to 4 meanwhile: 0.75 x 4 + 0.25 x 6.
    merged = normalization.merge(
      Kind.MOVING_STATISTIC, 0.75, tf.constant([4.0]), sent
    )
    np.testing.assert_array_equal(merged, [4.5])

  @parameterized.parameters((0.0, 0.0), (1.0, 10.0))
  def test_moving_statistic_at_the_extremes(self, momentum, expected):
    # Momentum 0: the last batch; 1: nothing ever moves.
    returned = momentum * 2.0 + (1 - momentum) * 0.0
    sent = normalization.contribution(
      Kind.MOVING_STATISTIC, momentum, tf.constant(2.0), tf.constant(returned)
    )
    merged = normalization.merge(
      Kind.MOVING_STATISTIC, momentum, tf.constant(10.0), sent
    )
    self.assertEqual(float(merged), expected)

  @parameterized.parameters("uint32", "int64")
  def test_counter_adds_up(self, dtype):
    pulled, returned, current = (
      tf.constant(state, dtype) for state in ([7, 20], [7, 23], [7, 100])
    )
    sent = normalization.contribution(Kind.COUNTER, 0.0, pulled, returned)
    np.testing.assert_array_equal(sent, [0, 3])
    merged = normalization.merge(Kind.COUNTER, 0.0, current, sent)
    np.testing.assert_array_equal(merged, [7, 103])
    self.assertEqual(merged.dtype, dtype)

  def test_counter_wraps_around(self):
    pulled = tf.constant([7, 2**32 - 1], tf.uint32)
    returned = tf.constant([7, 2], tf.uint32)
    sent = normalization.contribution(Kind.COUNTER, 0.0, pulled, returned)
    np.testing.assert_array_equal(sent, [0, 3])

  def test_latest_replaces(self):
    sent = normalization.contribution(
      Kind.LATEST, 0.9, tf.constant(1.0), tf.constant(5.0)
    )
    merged = normalization.merge(Kind.LATEST, 0.9, tf.constant(3.0), sent)
    self.assertEqual(float(merged), 5.0)

  @parameterized.product(
    kind=(Kind.MOVING_STATISTIC, Kind.LATEST),
    dtype=("float16", "bfloat16", "float32", "float64"),
  )
  def test_keeps_the_dtype(self, kind, dtype):
    values = [tf.constant([2.0], dtype), tf.constant([3.0], dtype)]
    sent = normalization.contribution(kind, 0.5, *values)
    self.assertEqual(sent.dtype, dtype)
    merged = normalization.merge(kind, 0.5, values[0], sent)
    self.assertEqual(merged.dtype, dtype)
    np.testing.assert_array_equal(tf.cast(merged, tf.float32), [3.0])

  @parameterized.parameters(0.9, 0.99)
  def test_never_late_is_plain_batch_normalization(self, momentum):
    """One worker's contributions add up to what Keras does."""
    rng = np.random.default_rng(0)
    layer = keras.layers.BatchNormalization(momentum=momentum)
    layer.build((None, 3))
    values = [tf.convert_to_tensor(v) for v in layer.non_trainable_variables]
    for _ in range(5):
      batch = rng.normal(2.0, 3.0, (8, 3)).astype("float32")
      _, returned = layer.stateless_call(
        layer.trainable_variables, values, batch, training=True
      )
      for i, pulled in enumerate(values):
        sent = normalization.contribution(
          Kind.MOVING_STATISTIC, momentum, pulled, returned[i]
        )
        values[i] = normalization.merge(
          Kind.MOVING_STATISTIC, momentum, pulled, sent
        )
      layer(batch, training=True)
    for value, variable in zip(
      values, layer.non_trainable_variables, strict=True
    ):
      np.testing.assert_allclose(value, variable, rtol=1e-5)

  def test_staleness_does_not_matter(self):
    """However late, the server's mean is the one of batches as they arrive."""
    momentum, workers = 0.8, 16
    rng = np.random.default_rng(1)
    server = expected = 0.0
    pulled = dict.fromkeys(range(workers), 0.0)
    for _ in range(200):
      worker = int(rng.integers(workers))
      batch = rng.normal(5.0, 1.0)
      returned = momentum * pulled[worker] + (1 - momentum) * batch
      sent = normalization.contribution(
        Kind.MOVING_STATISTIC,
        momentum,
        tf.constant(pulled[worker], tf.float64),
        tf.constant(returned, tf.float64),
      )
      server = float(
        normalization.merge(
          Kind.MOVING_STATISTIC, momentum, tf.constant(server, tf.float64), sent
        )
      )
      pulled[worker] = server
      expected = momentum * expected + (1 - momentum) * batch
    np.testing.assert_allclose(server, expected, rtol=1e-5)


class WorkerSeedTest(parameterized.TestCase):
  @parameterized.parameters("uint32", "int64")
  def test_worker_0_draws_what_one_process_would(self, dtype):
    state = tf.constant([123, 45], dtype)
    mine = normalization.worker_seed(state, tf.constant(0, tf.int64))
    np.testing.assert_array_equal(mine, state)
    self.assertEqual(mine.dtype, dtype)

  @parameterized.product(dtype=("uint32", "int64"), jit_compile=(False, True))
  def test_workers_differ_in_their_seeds_only(self, dtype, jit_compile):
    worker_seed = tf.function(
      normalization.worker_seed, jit_compile=jit_compile
    )
    state = tf.constant([2**32 - 1, 45], dtype)
    states = [
      worker_seed(state, tf.constant(m, tf.int64)).numpy() for m in range(200)
    ]
    self.assertLen({int(seed) for seed, _ in states}, 200)
    self.assertEqual({int(counter) for _, counter in states}, {45})

  @parameterized.parameters("uint32", "int64")
  def test_contribution_is_free_of_the_shift(self, dtype):
    """A worker counts from its own seed; the server's seed stays."""
    state = tf.constant([9, 50], dtype)
    mine = normalization.worker_seed(state, tf.constant(3, tf.int64))
    after = mine + tf.constant([0, 5], dtype)
    sent = normalization.contribution(Kind.COUNTER, 0.0, mine, after)
    np.testing.assert_array_equal(
      normalization.merge(Kind.COUNTER, 0.0, state, sent), [9, 55]
    )

  def test_workers_draw_different_numbers(self):
    """As Keras draws them, from a state that was pulled."""
    generator = keras.random.SeedGenerator(5)
    draws = []
    for worker in (0, 1, 2):
      state = tf.convert_to_tensor(generator.state.value)
      mine = normalization.worker_seed(state, tf.constant(worker, tf.int64))
      with keras.StatelessScope([(generator.state, mine)]) as scope:
        draws.append(keras.random.uniform([4], seed=generator).numpy())
      after = scope.get_current_value(generator.state)
      sent = normalization.contribution(Kind.COUNTER, 0.0, mine, after)
      # One draw was made, whoever made it.
      np.testing.assert_array_equal(
        normalization.merge(Kind.COUNTER, 0.0, state, sent),
        [state[0], state[1] + 1],
      )
    alone = keras.random.uniform([4], seed=keras.random.SeedGenerator(5))
    np.testing.assert_array_equal(draws[0], alone)
    self.assertGreater(np.min(np.abs(draws[1] - draws[0])), 0)
    self.assertGreater(np.min(np.abs(draws[2] - draws[1])), 0)


def _kinds(model):
  """The kind of each non-trainable variable, by layer and name."""
  return {
    "/".join(variable.path.split("/")[-2:]): kind
    for variable, kind in zip(
      model.non_trainable_variables, normalization.classify(model), strict=True
    )
  }


class ClassifyTest(parameterized.TestCase):
  def test_batch_normalization_moves(self):
    model = keras.Sequential(
      [
        keras.Input((3,)),
        keras.layers.Dense(2),
        keras.layers.BatchNormalization(momentum=0.9, name="first"),
        keras.layers.BatchNormalization(momentum=0.5, name="second"),
      ]
    )
    self.assertEqual(
      _kinds(model),
      {
        "first/moving_mean": (Kind.MOVING_STATISTIC, 0.9),
        "first/moving_variance": (Kind.MOVING_STATISTIC, 0.9),
        "second/moving_mean": (Kind.MOVING_STATISTIC, 0.5),
        "second/moving_variance": (Kind.MOVING_STATISTIC, 0.5),
      },
    )

  def test_frozen_layers_stay(self):
    model = keras.Sequential(
      [
        keras.Input((3,)),
        keras.layers.Dense(2, name="dense"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Dense(1, name="head"),
      ]
    )
    model.layers[0].trainable = False
    model.layers[1].trainable = False
    kinds = _kinds(model)
    weights = "dense/kernel", "dense/bias", "norm/gamma", "norm/beta"
    statistics = "norm/moving_mean", "norm/moving_variance"
    self.assertEqual(
      kinds,
      dict.fromkeys(weights, (Kind.FROZEN, 0.0))
      | dict.fromkeys(statistics, (Kind.LATEST, 0.0)),
    )

  def test_seeds_count(self):
    model = keras.Sequential(
      [
        keras.Input((6, 6, 1)),
        keras.layers.RandomFlip(),
        keras.layers.Dropout(0.5),
        keras.layers.GaussianNoise(0.1),
      ]
    )
    self.assertEqual(normalization.classify(model), [(Kind.COUNTER, 0.0)] * 3)

  @parameterized.parameters("uint32", "int64")
  def test_what_looks_like_a_seed_is_none(self, dtype):
    class Mine(keras.layers.Layer):
      def build(self, input_shape):
        del input_shape
        self.state = self.add_weight(shape=(2,), dtype=dtype, trainable=False)

      def call(self, x):
        return x

    model = keras.Sequential([keras.Input((3,)), Mine()])
    self.assertEqual(normalization.classify(model), [(Kind.LATEST, 0.0)])

  def test_anything_else_follows_the_latest_push(self):
    model = keras.Sequential(
      [
        keras.Input((3,)),
        keras.layers.SpectralNormalization(keras.layers.Dense(2, name="dense")),
      ]
    )
    kinds = _kinds(model)
    self.assertNotEmpty(kinds)
    self.assertEqual(set(kinds.values()), {(Kind.LATEST, 0.0)})

  def test_finds_what_is_nested(self):
    inner = keras.Sequential(
      [
        keras.Input((4,)),
        keras.layers.BatchNormalization(momentum=0.7, name="inside"),
        keras.layers.Dropout(0.1, name="drop"),
      ],
      name="inner",
    )
    inputs = keras.Input((5, 4))
    outputs = keras.layers.TimeDistributed(inner)(inputs)
    outputs = keras.layers.BatchNormalization(name="outside")(outputs)
    middle = keras.Model(inputs, outputs, name="middle")
    model = keras.Sequential([keras.Input((5, 4)), middle])
    by_name = _kinds(model)
    self.assertEqual(
      by_name.pop("inside/moving_mean"), (Kind.MOVING_STATISTIC, 0.7)
    )
    self.assertEqual(
      by_name.pop("inside/moving_variance"), (Kind.MOVING_STATISTIC, 0.7)
    )
    self.assertEqual(
      by_name.pop("outside/moving_mean"), (Kind.MOVING_STATISTIC, 0.99)
    )
    self.assertEqual(
      by_name.pop("outside/moving_variance"), (Kind.MOVING_STATISTIC, 0.99)
    )
    self.assertEqual(set(by_name.values()), {(Kind.COUNTER, 0.0)})

  def test_frozen_inside_a_nested_model(self):
    inner = keras.Sequential(
      [keras.Input((4,)), keras.layers.BatchNormalization(name="inside")]
    )
    inner.trainable = False
    model = keras.Sequential(
      [
        keras.Input((4,)),
        inner,
        keras.layers.BatchNormalization(name="outside"),
      ]
    )
    kinds = {
      path: kind for path, kind in _kinds(model).items() if "moving" in path
    }
    self.assertLen(kinds, 4)
    for path, (kind, _) in kinds.items():
      expected = Kind.LATEST if "inside" in path else Kind.MOVING_STATISTIC
      self.assertEqual(kind, expected, path)

  def test_subclasses_of_batch_normalization_move(self):
    class Mine(keras.layers.BatchNormalization):
      pass

    model = keras.Sequential([keras.Input((4,)), Mine(momentum=0.6)])
    self.assertEqual(
      normalization.classify(model), [(Kind.MOVING_STATISTIC, 0.6)] * 2
    )

  def test_refuses_synchronized_batch_normalization(self):
    model = keras.Sequential(
      [
        keras.Input((4,)),
        keras.layers.BatchNormalization(synchronized=True, name="together"),
      ]
    )
    with self.assertRaisesRegex(
      ValueError, "'together'.*synchronized=True.*Use synchronized=False"
    ):
      normalization.classify(model)

  def test_nothing_to_classify(self):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    self.assertEqual(normalization.classify(model), [])


if __name__ == "__main__":
  absltest.main()
