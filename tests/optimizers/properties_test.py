"""Properties that simulated training has whatever the model and the delays."""

import hypothesis
import keras
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

import lc_asgd_tf
from lc_asgd_tf import delays

_BATCH = 4

_DELAYS = st.one_of(
  st.builds(delays.Constant),
  st.builds(
    delays.Homogeneous, st.sampled_from([0.1, 1.0]), seed=st.integers(0, 99)
  ),
  st.builds(delays.Heterogeneous, seed=st.integers(0, 99)),
  st.builds(
    delays.HeavyTailed, st.sampled_from([1.1, 2.0]), seed=st.integers(0, 99)
  ),
)
_RULES = st.sampled_from(
  [
    lambda **kw: lc_asgd_tf.ASGD(0.01, 0.5, **kw),
    lambda **kw: lc_asgd_tf.StalenessAwareSGD(0.01, clipnorm=1.0, **kw),
    lambda **kw: lc_asgd_tf.DCASGD(0.01, **kw),
    lambda **kw: lc_asgd_tf.LCASGD(0.01, 0.5, loss_predictor="holt", **kw),
    lambda **kw: lc_asgd_tf.AsyncOptimizer(keras.optimizers.Adam(1e-3), **kw),
  ]
)


def _arrivals(table, pushes):
  """Returns (worker, time) of each push, sorted by time, then by worker."""
  times = np.cumsum(table[:, :pushes], axis=1)
  workers = np.repeat(np.arange(len(table)), times.shape[1])
  order = np.lexsort((workers, times.ravel()))[:pushes]
  return workers[order], times.ravel()[order]


def _staleness(workers):
  """Returns how many others have pushed since each worker's last push."""
  staleness = []
  for push, worker in enumerate(workers):
    earlier = np.flatnonzero(workers[:push] == worker)
    # Whoever has not pushed yet has pulled version 0.
    pulled = earlier[-1] + 1 if earlier.size else 0
    staleness.append(push - pulled)
  return staleness


class PropertiesTest(parameterized.TestCase):
  @hypothesis.settings(max_examples=8, deadline=None, derandomize=True)
  @hypothesis.given(
    widths=st.lists(st.integers(1, 6), max_size=2),
    num_workers=st.integers(2, 9),
    delay_model=_DELAYS,
    rule=_RULES,
    batches=st.integers(1, 12),
    seed=st.integers(0, 99),
  )
  def test_books(self, widths, num_workers, delay_model, rule, batches, seed):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
      [keras.Input((3,))]
      + [keras.layers.Dense(width, activation="relu") for width in widths]
      + [keras.layers.Dense(1)]
    )
    optimizer = rule(num_workers=num_workers, delays=delay_model)
    model.compile(optimizer=optimizer, loss="mse")
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(batches * _BATCH, 3)).astype("float32")
    history = model.fit(
      x,
      np.sum(x, axis=1, keepdims=True),
      batch_size=_BATCH,
      epochs=2,
      verbose=0,
      callbacks=[lc_asgd_tf.callbacks.ServerWeights()],
    ).history

    pushes = 2 * batches
    workers, times = _arrivals(delay_model.table(num_workers), pushes)
    staleness = _staleness(workers)
    ledger = optimizer.simulation.server.ledger
    simulated = optimizer.simulation.workers
    statistics = ledger.statistics.numpy()
    self.assertEqual(int(ledger.version), pushes)
    self.assertEqual(int(optimizer.iterations), pushes)
    self.assertEqual(statistics[0], pushes)
    self.assertEqual(statistics[1], 0)
    self.assertEqual(statistics[2], sum(staleness))
    self.assertEqual(statistics[3], max(staleness))
    # Every worker is at work on one step that it has not pushed.
    self.assertEqual(
      simulated.steps.numpy().tolist(),
      (np.bincount(workers, minlength=num_workers) + 1).tolist(),
    )
    self.assertEqual(int(np.sum(simulated.steps)), pushes + num_workers)
    np.testing.assert_allclose(float(simulated.time), times[-1], rtol=1e-12)
    for weights in (
      *model.get_weights(),
      *optimizer.simulation.server.shards[0].weights,
      simulated.snapshots,
    ):
      self.assertTrue(np.all(np.isfinite(weights)))
    self.assertTrue(np.all(np.isfinite(history["loss"])))

  @hypothesis.settings(max_examples=3, deadline=None, derandomize=True)
  @hypothesis.given(rule=_RULES, delay_model=_DELAYS, seed=st.integers(0, 99))
  def test_one_worker_is_never_late(self, rule, delay_model, seed):
    """One worker makes Keras's own run, whatever the rule and the delays."""
    x = np.random.default_rng(seed).normal(size=(12, 3)).astype("float32")
    optimizer = rule(num_workers=1, delays=delay_model)
    inner = optimizer.inner_optimizer
    plain = type(inner).from_config(inner.get_config())
    ends = []
    for chosen in (optimizer, plain):
      keras.utils.set_random_seed(seed)
      model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
      model.compile(optimizer=chosen, loss="mse")
      model.fit(x, x[:, :1], batch_size=_BATCH, shuffle=False, verbose=0)
      ends.append(model.get_weights())
    for actual, expected in zip(*ends, strict=True):
      np.testing.assert_array_equal(actual, expected)


if __name__ == "__main__":
  absltest.main()
