"""Tests for moving statistics that are measured at the present weights."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import lc_asgd_tf
from lc_asgd_tf import errors

_BATCH = 16
_X = (
  np.random.default_rng(0).normal(3.0, 2.0, (8 * _BATCH, 4)).astype("float32")
)
_Y = _X.sum(1, keepdims=True)
_DATA = tf.data.Dataset.from_tensor_slices((_X, _Y)).batch(_BATCH)


def _model(optimizer, **options):
  keras.utils.set_random_seed(0)
  model = keras.Sequential(
    [
      keras.Input((4,)),
      keras.layers.Dense(3),
      keras.layers.BatchNormalization(**options),
      keras.layers.Dense(1),
    ]
  )
  model.compile(optimizer, "mse")
  return model


def _simulated():
  return lc_asgd_tf.LCASGD(0.01, num_workers=4)


class PreciseBatchNormalizationTest(parameterized.TestCase):
  def assert_precise(self, model, x=_X):
    """Asserts that the statistics are those of x at the model's weights."""
    hidden = model.layers[0](x).numpy()
    normalization = model.layers[1]
    np.testing.assert_allclose(
      normalization.moving_mean, hidden.mean(0), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
      normalization.moving_variance, hidden.var(0), rtol=1e-4
    )

  @parameterized.parameters(
    (lambda: keras.optimizers.SGD(0.01), []),
    (lambda: lc_asgd_tf.ASGD(0.01), []),
    (_simulated, [lc_asgd_tf.callbacks.ServerWeights]),
    (_simulated, [lc_asgd_tf.callbacks.PlainBatchNormalization]),
  )
  def test_end_of_training(self, optimizer, before):
    model = _model(optimizer())
    callbacks = [callback() for callback in before]
    callbacks.append(lc_asgd_tf.callbacks.PreciseBatchNormalization(_DATA))
    model.fit(_DATA, epochs=2, verbose=0, callbacks=callbacks)
    self.assert_precise(model)

  def test_refuses_renorm_before_any_step(self):
    model = keras.Sequential(
      [
        keras.Input((4,)),
        keras.layers.BatchNormalization(renorm=True),
        keras.layers.Dense(1),
      ]
    )
    model.compile("sgd", "mse")
    precise = lc_asgd_tf.callbacks.PreciseBatchNormalization(_DATA)
    with self.assertRaisesRegex(errors.UserError, "renorm=True"):
      model.fit(_DATA, verbose=0, callbacks=[precise])
    self.assertEqual(int(model.optimizer.iterations), 0)

  def test_validation_and_end_of_epoch_see_them(self):
    seen = []

    def look(*_):
      self.assert_precise(model)
      seen.append(True)

    model = _model(_simulated())
    model.fit(
      _DATA,
      epochs=2,
      verbose=0,
      validation_data=_DATA,
      callbacks=[
        lc_asgd_tf.callbacks.ServerWeights(),
        lc_asgd_tf.callbacks.PreciseBatchNormalization(_DATA),
        keras.callbacks.LambdaCallback(
          on_epoch_end=look, on_test_begin=look, on_train_end=look
        ),
      ],
    )
    self.assertLen(seen, 2 + 2 + 1)

  def test_training_does_not_notice(self):
    weights = []
    for precise in (False, True):
      model = _model(_simulated())
      callbacks = [lc_asgd_tf.callbacks.ServerWeights()]
      if precise:
        callbacks.append(lc_asgd_tf.callbacks.PreciseBatchNormalization(_DATA))
      model.fit(
        _DATA,
        epochs=2,
        verbose=0,
        validation_data=_DATA,
        callbacks=callbacks,
      )
      weights.append([v.numpy() for v in model.trainable_variables])
    for one, other in zip(*weights, strict=True):
      np.testing.assert_array_equal(one, other)

  def test_takes_so_many_batches(self):
    model = _model(keras.optimizers.SGD(0.01))
    model.fit(
      _DATA,
      verbose=0,
      callbacks=[
        lc_asgd_tf.callbacks.PreciseBatchNormalization(
          _DATA.map(lambda x, y: x).repeat(), steps=2
        )
      ],
    )
    self.assert_precise(model, _X[: 2 * _BATCH])

  def test_layers_that_do_not_move_stay(self):
    for options, trainable in (({}, False), ({"momentum": 1.0}, True)):
      with self.subTest(options=options, trainable=trainable):
        model = _model(keras.optimizers.SGD(0.01), **options)
        model.layers[1].trainable = trainable
        model.fit(
          _DATA,
          verbose=0,
          callbacks=[lc_asgd_tf.callbacks.PreciseBatchNormalization(_DATA)],
        )
        np.testing.assert_array_equal(model.layers[1].moving_mean, np.zeros(3))

  def test_layers_that_are_called_for_inference_stay(self):
    class Frozen(keras.Model):
      def __init__(self):
        super().__init__()
        self.frozen = keras.layers.BatchNormalization()
        self.moving = keras.layers.BatchNormalization()
        self.never = keras.layers.BatchNormalization()

      def call(self, x, training=False):
        return self.moving(self.frozen(x, training=False), training=training)

    model = Frozen()
    model(_X)
    for variable, value in zip(
      (model.frozen.moving_mean, model.frozen.moving_variance),
      ([1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]),
      strict=True,
    ):
      variable.assign(value)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(
      _DATA,
      verbose=0,
      callbacks=[lc_asgd_tf.callbacks.PreciseBatchNormalization(_DATA)],
    )
    np.testing.assert_array_equal(model.frozen.moving_mean, [1, 2, 3, 4])
    np.testing.assert_array_equal(model.frozen.moving_variance, [4, 3, 2, 1])
    hidden = model.frozen(_X).numpy()
    np.testing.assert_allclose(model.moving.moving_mean, hidden.mean(0), 1e-4)
    np.testing.assert_allclose(
      model.moving.moving_variance, hidden.var(0), 1e-4
    )

  def test_every_batch_draws_its_own_dropout(self):
    model = keras.Sequential(
      [
        keras.Input((4,)),
        keras.layers.Dropout(0.5, seed=0),
        keras.layers.BatchNormalization(),
      ]
    )
    model.compile(keras.optimizers.SGD(0.0), "mse")
    ones = tf.data.Dataset.from_tensors(np.ones((16, 4), "float32"))
    callback = lc_asgd_tf.callbacks.PreciseBatchNormalization(
      ones.repeat(), steps=200
    )
    callback.set_model(model)
    callback.on_test_begin()
    # Four standard deviations: each mean is of 3200 draws of 0 or 2.
    np.testing.assert_allclose(model.layers[1].moving_mean, np.ones(4), 0.07)
    np.testing.assert_allclose(
      model.layers[1].moving_variance, np.ones(4), 0.07
    )

  def test_refuses_layers_that_are_used_twice(self):
    x = keras.Input((4,))
    shared = keras.layers.BatchNormalization()
    model = keras.Model(x, keras.layers.Dense(1)(shared(shared(x))))
    model.compile("sgd", "mse")
    with self.assertRaisesRegex(ValueError, "more than once per step"):
      model.fit(
        _DATA,
        verbose=0,
        callbacks=[lc_asgd_tf.callbacks.PreciseBatchNormalization(_DATA)],
      )

  def test_refuses_data_it_cannot_use(self):
    make = lc_asgd_tf.callbacks.PreciseBatchNormalization
    with self.assertRaisesRegex(TypeError, "tf.data.Dataset, got ndarray"):
      make(_X)
    with self.assertRaisesRegex(ValueError, "steps must be at least 1, got 0"):
      make(_DATA, steps=0)
    model = _model(keras.optimizers.SGD(0.01))
    with self.assertRaisesRegex(ValueError, "is empty"):
      model.fit(_DATA, verbose=0, callbacks=[make(_DATA.take(0))])


if __name__ == "__main__":
  absltest.main()
