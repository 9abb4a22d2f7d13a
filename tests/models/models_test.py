"""Tests for the reference networks and for models from files."""

import itertools
import os
import tempfile
from unittest import mock

import keras
import numpy as np
from absl import flags
from absl.testing import absltest, parameterized

from flags import model as model_flags
from lc_asgd_tf import errors, models

_TEXT_MODELS = ("characters",)
_IMAGE_MODELS = tuple(name for name in models.NAMES if name not in _TEXT_MODELS)
_NUM_CLASSES = 10


def _input_shape(name):
  """Returns the shape of some inputs for the model."""
  return (6,) if name in _TEXT_MODELS else (8, 8, 1)


def _inputs(name, count):
  """Returns some inputs for the model."""
  rng = np.random.default_rng(0)
  shape = (count, *_input_shape(name))
  if name in _TEXT_MODELS:
    return rng.integers(_NUM_CLASSES, size=shape, dtype=np.int32)
  return rng.random(shape, np.float32)


def _create(name):
  return models.create(name, _input_shape(name), _NUM_CLASSES)


def _num_weights(variables):
  return sum(int(np.prod(variable.shape)) for variable in variables)


def _save(directory, model, name="model.keras"):
  path = os.path.join(directory, name)
  model.save(path)
  return path


class ReferenceNetworksTest(parameterized.TestCase):
  def test_names(self):
    self.assertEqual(
      models.NAMES,
      ("mlp", "deep_mlp", "convolutional", "characters", "resnet8", "resnet20"),
    )
    for name in models.NAMES:
      self.assertIn(name, models.__all__)

  def test_help_names_all_models(self):
    with mock.patch.object(flags, "DEFINE_string") as define:
      model_flags.define()
    name, _, text = define.call_args.args
    self.assertEqual(name, "model")
    for name in models.NAMES:
      self.assertRegex(text, rf"\b{name}\b")

  @parameterized.parameters(
    *itertools.product(_IMAGE_MODELS, ((8, 8, 1), (28, 28, 1), (32, 32, 3))),
    *itertools.product(_TEXT_MODELS, ((1,), (16,))),
    *itertools.product(("mlp", "deep_mlp"), ((30,), (4, 5))),
  )
  def test_returns_logits(self, name, input_shape):
    model = models.create(name, input_shape, num_classes=7)
    logits = model(np.ones((2, *input_shape), np.float32)).numpy()
    self.assertEqual(logits.shape, (2, 7))
    self.assertEqual(logits.dtype, np.float32)
    self.assertFalse(np.allclose(logits.sum(axis=1), 1))  # No softmax.
    self.assertEqual(model.name, name)

  @parameterized.parameters(*models.NAMES)
  def test_returns_float32_under_mixed_precision(self, name):
    policy = keras.config.dtype_policy()
    self.addCleanup(keras.config.set_dtype_policy, policy)
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = _create(name)
    self.assertEqual(model.layers[-2].compute_dtype, "bfloat16")
    self.assertEqual(model.outputs[0].dtype, "float32")
    self.assertEqual(model(_inputs(name, 2)).dtype, "float32")

  @parameterized.parameters(*models.NAMES)
  def test_the_same_seed_gives_the_same_weights(self, name):
    def weights(seed):
      keras.utils.set_random_seed(seed)
      return _create(name).get_weights()

    first, again, other = weights(1), weights(1), weights(2)
    for a, b in zip(first, again, strict=True):
      np.testing.assert_array_equal(a, b)
    kernels = [(a, b) for a, b in zip(first, other, strict=True) if a.ndim > 1]
    self.assertNotEmpty(kernels)
    for a, b in kernels:
      self.assertFalse(np.array_equal(a, b))

  @parameterized.parameters(*models.NAMES)
  def test_layers_have_the_same_names_when_built_again(self, name):
    first, again = (_create(name) for _ in range(2))
    self.assertEqual(
      [weight.path for weight in first.weights],
      [weight.path for weight in again.weights],
    )

  @parameterized.parameters("mlp", "convolutional", "characters", "resnet8")
  def test_learns_one_batch(self, name):
    keras.utils.set_random_seed(0)
    inputs = _inputs(name, 20)
    labels = np.arange(20) % _NUM_CLASSES
    model = _create(name)
    model.compile(
      keras.optimizers.Adam(0.01),
      keras.losses.SparseCategoricalCrossentropy(from_logits=True),
      metrics=["accuracy"],
    )
    history = model.fit(inputs, labels, batch_size=20, epochs=20, verbose=0)
    self.assertGreater(history.history["accuracy"][-1], 0.9)

  @parameterized.parameters(
    ("resnet8", (64,), r"needs images .* \(64,\)"),
    ("resnet20", (8, 8), r"needs images .* \(8, 8\)"),
    ("convolutional", (30,), r"needs images .* \(30,\)"),
    ("convolutional", (8, 8), r"needs images .* \(8, 8\)"),
    ("characters", (8, 8, 1), r"needs contexts .* \(8, 8, 1\)"),
    ("characters", (), r"needs contexts .* \(\)"),
  )
  def test_refuses_other_inputs(self, name, input_shape, regex):
    with self.assertRaisesRegex(errors.UserError, regex) as raised:
      models.create(name, input_shape, 10)
    self.assertNotIn("\n", str(raised.exception))


class ResidualNetworkTest(parameterized.TestCase):
  def test_number_of_weights_of_resnet20(self):
    model = models.resnet20()
    # By hand; nine weights connect each pair of filters of a convolution.
    #   stem           9 * 3 * 16                          =     432
    #   stage 1        6 * 9 * 16 * 16                     =  13,824
    #   stage 2        9 * 16 * 32 + 5 * 9 * 32 * 32       =  50,688
    #   stage 3        9 * 32 * 64 + 5 * 9 * 64 * 64       = 202,752
    #   normalization  2 * (7 * 16 + 6 * 32 + 6 * 64)      =   1,376
    #   logits         64 * 10 + 10                        =     650
    self.assertEqual(_num_weights(model.trainable_variables), 269_722)
    # A moving mean and a moving variance for each scale and offset.
    self.assertEqual(_num_weights(model.non_trainable_variables), 1_376)

  def test_number_of_weights_of_resnet8(self):
    model = models.resnet8()
    #   stem 144, stages 2 * 2,304 + 4,608 + 9,216 + 18,432 + 36,864,
    #   normalization 2 * (3 * 16 + 2 * 32 + 2 * 64), logits 650
    self.assertEqual(_num_weights(model.trainable_variables), 75_002)

  @parameterized.parameters(8, 14, 20, 26)
  def test_depth_counts_the_layers_with_weights(self, depth):
    model = models.residual_network(depth, (8, 8, 1), 10)
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    layers = [layer for layer in model.layers if isinstance(layer, kinds)]
    self.assertLen(layers, depth)
    self.assertEqual(model.name, f"resnet{depth}")

  @parameterized.parameters(2, 7, 10, 21)
  def test_refuses_other_depths(self, depth):
    with self.assertRaisesRegex(errors.UserError, f"6n . 2.* not {depth}"):
      models.residual_network(depth, (8, 8, 1), 10)

  def test_shortcuts_subsample_and_pad_with_zeros(self):
    model = models.resnet8((8, 8, 1), 10)
    for layer in model.layers:
      if layer.name.endswith("_b_norm"):  # Switch the residuals off.
        layer.gamma.assign(np.zeros(layer.gamma.shape))
    inspector = keras.Model(
      model.input,
      [model.get_layer(name).output for name in ("stem_relu", "pool")],
    )
    images = np.random.default_rng(0).random((2, 8, 8, 1), np.float32)
    stem, pooled = (output.numpy() for output in inspector(images))
    expected = stem[:, ::4, ::4, :].mean(axis=(1, 2))
    self.assertGreater(expected.max(), 0)
    np.testing.assert_allclose(pooled[:, :16], expected, rtol=1e-6)
    np.testing.assert_array_equal(pooled[:, 16:], 0)


class ConvolutionalTest(parameterized.TestCase):
  @parameterized.parameters(
    # Nine weights connect each pair of filters; each filter has a bias. What is
    # left of the image after halving it three times, rounding up:
    # 160 + 4,640 + 18,496 and 1 x 1 x 64 x 10 + 10,
    ((8, 8, 1), 23_946),
    # 448 + 4,640 + 18,496 and 4 x 4 x 64 x 10 + 10,
    ((32, 32, 3), 33_834),
    # 160 + 4,640 + 18,496 and 4 x 4 x 64 x 10 + 10.
    ((28, 28, 1), 33_546),
  )
  def test_number_of_weights(self, input_shape, expected):
    model = models.convolutional(input_shape, 10)
    self.assertEqual(_num_weights(model.trainable_variables), expected)
    # Nothing is normalized.
    self.assertEmpty(model.non_trainable_variables)

  def test_is_relu_all_the_way(self):
    """Twice the image gives twice the logits: biases start from zero."""
    model = models.convolutional((8, 8, 1), 10)
    images = _inputs("convolutional", 3)
    np.testing.assert_allclose(model(2 * images), 2 * model(images), rtol=1e-4)
    self.assertFalse(np.allclose(model(-images), -model(images)))


class CharactersTest(absltest.TestCase):
  def test_number_of_weights(self):
    model = models.characters((16,), 64)
    # 64 * 16, 16 * 16 * 128 + 128 and 128 * 64 + 64
    self.assertEqual(_num_weights(model.trainable_variables), 42_176)

  def test_looks_every_character_up(self):
    model = models.characters((3,), 5)
    table, hidden, hidden_bias, logits, bias = model.get_weights()
    contexts = np.array([[0, 4, 4], [1, 2, 3]], np.int32)
    x = np.concatenate([table[contexts[:, i]] for i in range(3)], axis=1)
    x = np.maximum(x @ hidden + hidden_bias, 0)
    np.testing.assert_allclose(
      model(contexts), x @ logits + bias, rtol=1e-4, atol=1e-6
    )

  def test_takes_integers(self):
    model = models.characters((3,), 5)
    self.assertEqual(model.inputs[0].dtype, "int32")


class MlpTest(absltest.TestCase):
  def test_layers_have_the_given_sizes(self):
    model = models.mlp((8, 8, 1), 10, hidden=(5, 7, 3), activation="tanh")
    # 64 * 5 + 5, 5 * 7 + 7, 7 * 3 + 3 and 3 * 10 + 10
    self.assertEqual(_num_weights(model.trainable_variables), 431)
    self.assertIs(model.get_layer("hidden3").activation, keras.activations.tanh)

  def test_deep_mlp_is_an_mlp_of_four_layers_of_64(self):
    model = models.deep_mlp((30,), 2)
    # 30 * 64 + 64, three times 64 * 64 + 64, and 64 * 2 + 2
    self.assertEqual(_num_weights(model.trainable_variables), 14_594)
    for number in range(1, 5):
      layer = model.get_layer(f"hidden{number}")
      self.assertIs(layer.activation, keras.activations.relu)

  def test_without_hidden_layers_is_a_linear_classifier(self):
    model = models.mlp((4,), 3, hidden=())
    x = np.random.default_rng(0).random((2, 4), np.float32)
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(model(x), x @ kernel + bias, rtol=1e-5)


class RegisteredModelTest(absltest.TestCase):
  def test_must_say_what_its_inputs_are(self):
    class Subclassed(keras.Model):
      pass

    for number, new in enumerate((Subclassed, keras.Sequential)):
      name = f"without_inputs_{number}"
      models.register(name, lambda shape, classes, new=new: new())
      with self.assertRaisesRegex(errors.UserError, "what its inputs are"):
        models.create(name, (4,), 2)

  def test_must_return_logits(self):
    for number, (units, activation, message) in enumerate(
      (
        (2, "softmax", "ends in a softmax"),
        (3, None, "one logit for each of 2"),
      )
    ):

      def new(shape, classes, units=units, activation=activation):
        dense = keras.layers.Dense(units, activation)
        return keras.Sequential([keras.Input(shape), dense])

      name = f"no_logits_{number}"
      models.register(name, new)
      with self.assertRaisesRegex(errors.UserError, f"'{name}' .*{message}"):
        models.create(name, (4,), 2)


class LoadedModelTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.directory = self.enter_context(tempfile.TemporaryDirectory())

  def _assert_error(self, regex, path, input_shape=(4,), num_classes=3):
    with self.assertRaisesRegex(errors.UserError, regex) as raised:
      models.create(path, input_shape, num_classes)
    self.assertNotIn("\n", str(raised.exception))

  @parameterized.parameters(*models.NAMES)
  def test_computes_what_was_saved(self, name):
    saved = _create(name)
    path = _save(self.directory, saved)
    loaded = models.create(path, _input_shape(name), _NUM_CLASSES)
    inputs = _inputs(name, 3)
    np.testing.assert_array_equal(loaded(inputs), saved(inputs))
    self.assertFalse(loaded.compiled)

  def test_takes_models_for_images_of_any_size(self):
    inputs = keras.Input((None, None, 1))
    outputs = keras.layers.GlobalAveragePooling2D()(inputs)
    path = _save(
      self.directory, keras.Model(inputs, keras.layers.Dense(3)(outputs))
    )
    model = models.create(path, (8, 8, 1), 3)
    self.assertEqual(model(np.zeros((2, 8, 8, 1))).shape, (2, 3))

  def test_nothing_to_train(self):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.trainable = False
    self._assert_error("has no trainable weights", _save(self.directory, model))

  def test_unknown_name(self):
    self._assert_error(
      f"'resnet21' is neither one of {', '.join(models.NAMES)}.* nor .*"
      "did you mean 'resnet20'",
      "resnet21",
    )

  def test_missing_file(self):
    path = os.path.join(self.directory, "none.keras")
    self._assert_error(f"there is no model file {path}", path)

  @parameterized.parameters("~no_such_user/model.keras", 300 * "x" + ".keras")
  def test_a_path_that_the_system_refuses(self, path):
    self._assert_error("there is no model file", path)
    self._assert_error("is neither one of", path.replace(".keras", ".h5"))

  @parameterized.parameters("model.keras", "model.txt")
  def test_not_a_keras_file(self, name):
    path = os.path.join(self.directory, name)
    with open(path, "w", encoding="utf-8") as file:
      file.write("no model")
    self._assert_error("is not a Keras model", path)

  def test_unknown_layer(self):
    class Unknown(keras.layers.Layer):
      def call(self, inputs):
        return inputs

    path = _save(
      self.directory,
      keras.Sequential([keras.Input((4,)), Unknown(), keras.layers.Dense(3)]),
    )
    self._assert_error("cannot be loaded: .*not locate class 'Unknown'", path)

  @parameterized.named_parameters(
    ("size", (5,), r"shape \(4,\), but the data has \(5,\)"),
    ("rank", (4, 1), r"shape \(4,\), but the data has \(4, 1\)"),
  )
  def test_other_inputs(self, input_shape, regex):
    path = _save(self.directory, models.mlp((4,), 3))
    self._assert_error(regex, path, input_shape=input_shape)

  def test_other_number_of_classes(self):
    path = _save(self.directory, models.mlp((4,), 3))
    regex = r"returns \(3,\), but the data needs .* 5 classes"
    self._assert_error(regex, path, num_classes=5)

  def test_several_inputs(self):
    inputs = [keras.Input((4,)), keras.Input((4,))]
    outputs = keras.layers.Dense(3)(keras.layers.Add()(inputs))
    path = _save(self.directory, keras.Model(inputs, outputs))
    self._assert_error("has 2 inputs", path)

  def test_several_outputs(self):
    inputs = keras.Input((4,))
    outputs = [keras.layers.Dense(3)(inputs) for _ in range(2)]
    path = _save(self.directory, keras.Model(inputs, outputs))
    self._assert_error(r"returns \(3,\), \(3,\), but", path)

  @parameterized.named_parameters(
    ("activation", [keras.layers.Dense(3, activation="softmax")]),
    ("layer", [keras.layers.Dense(3), keras.layers.Softmax()]),
  )
  def test_softmax(self, layers):
    model = keras.Sequential([keras.Input((4,)), *layers])
    self._assert_error("ends in a softmax", _save(self.directory, model))
    inputs = keras.Input((4,))
    nested = keras.Model(inputs, model(inputs))
    self._assert_error("ends in a softmax", _save(self.directory, nested))

  @parameterized.parameters(keras.ops.softmax, keras.activations.softmax)
  def test_softmax_that_is_no_layer(self, softmax):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, softmax(keras.layers.Dense(3)(inputs)))
    self._assert_error("ends in a softmax", _save(self.directory, model))

  def test_logits_of_low_precision(self):
    model = keras.Sequential(
      [keras.Input((4,)), keras.layers.Dense(3, dtype="float16")]
    )
    self._assert_error("returns float16 logits", _save(self.directory, model))


if __name__ == "__main__":
  absltest.main()
