"""Tests for synchronous rounds: nobody is late, everybody waits."""

import keras
import numpy as np
from absl.testing import absltest, parameterized

import lc_asgd_tf

_WORKERS = 3
_ROUNDS = 4
_BATCH = 4


def _fit(optimizer, jit_compile=False):
  keras.utils.set_random_seed(0)
  model = keras.Sequential(
    [keras.Input((5,)), keras.layers.Dense(6, "tanh"), keras.layers.Dense(1)]
  )
  model.compile(optimizer, "mse", jit_compile=jit_compile)
  rng = np.random.default_rng(0)
  x = rng.normal(size=(_BATCH * _WORKERS * _ROUNDS, 5)).astype("float32")
  y = rng.normal(size=(len(x), 1)).astype("float32")
  model.fit(
    x,
    y,
    batch_size=_BATCH,
    shuffle=False,
    verbose=0,
    callbacks=[lc_asgd_tf.callbacks.ServerWeights()],
  )
  return model


class RoundsTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_equals_accumulated_gradients(self, jit_compile):
    ours = _fit(
      lc_asgd_tf.SSGD(0.1, momentum=0.9, num_workers=_WORKERS), jit_compile
    )
    keras_own = _fit(
      keras.optimizers.SGD(
        0.1, momentum=0.9, gradient_accumulation_steps=_WORKERS
      ),
      jit_compile,
    )
    for one, other in zip(
      ours.get_weights(), keras_own.get_weights(), strict=True
    ):
      np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    self.assertEqual(int(ours.optimizer.iterations), _ROUNDS)

  def test_waits_for_the_slowest_and_is_never_late(self):
    delays = lc_asgd_tf.delays.HeavyTailed(seed=5)
    model = _fit(lc_asgd_tf.SSGD(0.1, num_workers=_WORKERS, delays=delays))
    simulation = model.optimizer.simulation
    slowest = delays.table(_WORKERS)[:, :_ROUNDS].max(axis=0)
    # The latest arrival is the end of the last round.
    np.testing.assert_allclose(
      simulation.workers.time.numpy(), slowest.sum(), rtol=1e-12
    )
    pushes, _, staleness, *_ = simulation.server.ledger.statistics.numpy()
    self.assertEqual(pushes, _WORKERS * _ROUNDS)
    self.assertEqual(staleness, 0)
    logs = model.history.history
    np.testing.assert_allclose(logs["virtual_time"], [slowest.sum()])
    self.assertEqual(logs["pushes"], [_WORKERS * _ROUNDS])
    self.assertEqual(logs["staleness_mean"], [0.0])

  def test_configuration_keeps_what_the_user_gave(self):
    optimizer = _fit(lc_asgd_tf.SSGD(0.1, num_workers=_WORKERS)).optimizer
    copy = lc_asgd_tf.SSGD.from_config(optimizer.get_config())
    self.assertIsNone(copy.inner_optimizer.gradient_accumulation_steps)
    self.assertEqual(copy.num_workers, _WORKERS)


if __name__ == "__main__":
  absltest.main()
