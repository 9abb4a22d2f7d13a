"""Tests for the delay models."""

import os
import pathlib

import keras
import numpy as np
from absl.testing import absltest, parameterized

import lc_asgd_tf
from lc_asgd_tf import delays, errors

_TRACE = "worker,seconds\n0,0.5\n1,2\n0,1.5\n1,3e0\n1,4\n"

_RANDOM = {
  "homogeneous": delays.Homogeneous,
  "heterogeneous": delays.Heterogeneous,
  "heavy_tailed": delays.HeavyTailed,
}


class _FileTestCase(parameterized.TestCase):
  def write(self, content, name="trace.csv"):
    """Returns the path of a new file of this content."""
    path = os.path.join(self.create_tempdir().full_path, name)
    if isinstance(content, str):
      content = content.encode()
    pathlib.Path(path).write_bytes(content)
    return path


class TableTest(_FileTestCase):
  @parameterized.product(
    new=(delays.Constant, *_RANDOM.values()), num_workers=(1, 2, 9)
  )
  def test_has_a_row_per_worker(self, new, num_workers):
    table = new(seed=3).table(num_workers)
    self.assertEqual(table.dtype, np.float64)
    self.assertEqual(table.shape, (num_workers, 4096))
    self.assertTrue(np.all(np.isfinite(table)))
    self.assertGreater(np.min(table), 0)

  @parameterized.named_parameters(
    ("homogeneous", delays.Homogeneous(variation=30.0)),
    ("heterogeneous", delays.Heterogeneous(spread=20.0, variation=20.0)),
    ("heavy_tailed", delays.HeavyTailed(tail=1.001)),
  )
  def test_stays_positive_at_extremes(self, model):
    table = model.table(4)
    self.assertTrue(np.all(np.isfinite(table)))
    self.assertGreater(np.min(table), 0)

  @parameterized.named_parameters(*_RANDOM.items())
  def test_depends_on_the_seed_alone(self, new):
    model = new(seed=5)
    first = model.table(3)
    np.random.seed(0)
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(model.table(3), first)
    np.testing.assert_array_equal(new(seed=5).table(3), first)
    self.assertFalse(np.any(new(seed=6).table(3) == first))

  @parameterized.named_parameters(*_RANDOM.items())
  def test_workers_and_steps_differ(self, new):
    table = new(seed=0).table(4)
    self.assertEqual(np.unique(table).size, table.size)

  def test_the_model_matters(self):
    tables = [new(seed=0).table(2) for new in _RANDOM.values()]
    self.assertFalse(np.any(tables[0] == tables[1]))
    self.assertFalse(np.any(tables[1] == tables[2]))


class MomentsTest(parameterized.TestCase):
  def test_constant_is_one(self):
    np.testing.assert_array_equal(delays.Constant(seed=4).table(3), 1.0)

  @parameterized.parameters(0.1, 0.5, 1.0)
  def test_homogeneous(self, variation):
    table = delays.Homogeneous(variation, seed=1).table(64)
    np.testing.assert_allclose(np.mean(table), 1, atol=0.01)
    np.testing.assert_allclose(np.std(table), variation, rtol=0.02)
    # No worker is faster than another.
    np.testing.assert_allclose(
      np.mean(table, axis=1), 1, atol=5 * variation / 64
    )

  def test_homogeneous_is_gamma(self):
    # Gamma's skewness is twice its coefficient of variation.
    table = delays.Homogeneous(0.5, seed=1).table(64)
    skewness = np.mean((table - 1) ** 3) / 0.5**3
    np.testing.assert_allclose(skewness, 1.0, rtol=0.05)

  @parameterized.parameters((0.6, 0.1), (0.2, 0.5))
  def test_heterogeneous(self, spread, variation):
    table = delays.Heterogeneous(spread, variation, seed=2).table(1500)
    means = np.mean(table, axis=1)
    np.testing.assert_allclose(np.mean(means), 1, atol=4 * spread / 1500**0.5)
    np.testing.assert_allclose(np.std(means), spread, rtol=0.1)
    relative = np.std(table, axis=1) / means
    np.testing.assert_allclose(np.mean(relative), variation, rtol=0.02)

  def test_heavy_tailed(self):
    tail = 2.5
    table = delays.HeavyTailed(tail, seed=3).table(256)
    smallest = (tail - 1) / tail
    self.assertGreaterEqual(np.min(table), smallest)
    np.testing.assert_allclose(np.min(table), smallest, rtol=1e-4)
    np.testing.assert_allclose(np.mean(table), 1, atol=0.02)
    for x in (1.0, 3.0, 10.0):
      np.testing.assert_allclose(
        np.mean(table > x), (smallest / x) ** tail, rtol=0.1
      )

  def test_a_smaller_index_has_a_heavier_tail(self):
    heavy, light = (delays.HeavyTailed(t, seed=0).table(16) for t in (1.5, 3.0))
    self.assertGreater(np.max(heavy), 5 * np.max(light))
    self.assertLess(np.median(heavy), np.median(light))

  def test_defaults(self):
    np.testing.assert_allclose(
      np.std(delays.Homogeneous().table(8)), 0.1, rtol=0.05
    )
    self.assertEqual(
      delays.Heterogeneous().get_config(),
      {"spread": 0.6, "variation": 0.1, "seed": 0},
    )
    self.assertEqual(delays.HeavyTailed().get_config()["tail"], 1.5)


class TraceTest(_FileTestCase):
  def test_replays_each_worker(self):
    table = delays.Trace(self.write(_TRACE)).table(2)
    self.assertEqual(table.dtype, np.float64)
    self.assertEqual(table.shape, (2, 4096))
    np.testing.assert_array_equal(table[0, :5], [0.5, 1.5, 0.5, 1.5, 0.5])
    np.testing.assert_array_equal(table[1, :5], [2, 3, 4, 2, 3])

  def test_long_traces_are_replayed_to_the_end(self):
    lines = [f"0,{i + 1}" for i in range(5000)] + ["1,2", "1,3", "1,4"]
    table = delays.Trace(
      self.write("\n".join(["worker,seconds", *lines, ""]))
    ).table(2)
    np.testing.assert_array_equal(table[0], np.arange(1, 5001))
    np.testing.assert_array_equal(table[1, :4], [2, 3, 4, 2])

  def test_more_workers_than_recorded(self):
    table = delays.Trace(self.write(_TRACE)).table(5)
    self.assertEqual(table.shape, (5, 4096))
    for worker in range(5):
      np.testing.assert_array_equal(table[worker], table[worker % 2])
    self.assertFalse(np.array_equal(table[0], table[1]))

  def test_fewer_workers_than_recorded(self):
    path = self.write(_TRACE)
    np.testing.assert_array_equal(
      delays.Trace(path).table(1)[0], delays.Trace(path).table(2)[0]
    )

  def test_workers_in_the_order_of_their_numbers(self):
    path = self.write("worker,seconds\n10,3\n7,1\n9,2\n")
    np.testing.assert_array_equal(delays.Trace(path).table(3)[:, 0], [1, 2, 3])

  def test_columns_by_name(self):
    path = self.write("step,seconds,host,worker\r\n0,2.5,a,1\r\n0,1.5,b,0\r\n")
    np.testing.assert_array_equal(delays.Trace(path).table(2)[:, 0], [1.5, 2.5])

  def test_replays_rests(self):
    path = self.write(
      "worker,seconds,rest_seconds\n0,0.5,0\n1,2,4\n0,1.5,0.25\n1,3,\n"
    )
    model = delays.Trace(path)
    np.testing.assert_array_equal(
      model.table(2)[:, :3], [[0.5, 1.5, 0.5], [2, 3, 2]]
    )
    rests = model.rests(3)
    self.assertEqual(rests.shape, (3, 4096))
    np.testing.assert_array_equal(
      rests[:, :3], [[0, 0.25, 0], [4, 0, 4], [0, 0.25, 0]]
    )

  @parameterized.parameters(_TRACE, "worker,seconds,rest_seconds\n0,0.5,0\n")
  def test_without_rests(self, content):
    self.assertIsNone(delays.Trace(self.write(content)).rests(2))

  def test_takes_a_path_object(self):
    path = self.write(_TRACE)
    model = delays.Trace(pathlib.Path(path))
    self.assertEqual(model.get_config(), {"path": path, "seed": 0})

  def test_no_seed_changes_it(self):
    path = self.write(_TRACE)
    np.testing.assert_array_equal(
      delays.Trace(path, seed=1).table(3), delays.Trace(path, seed=2).table(3)
    )

  @parameterized.named_parameters(
    ("empty", "", "no columns worker and seconds"),
    ("no_header", "0,0.5\n1,0.5\n", "no columns worker and seconds"),
    ("other_columns", "worker,time\n0,1\n", "no columns worker and seconds"),
    ("glued", "worker,seconds\n0,0.01,0.5\n", "line 2, is not a worker"),
    ("header_only", "worker,seconds\n", "no steps"),
    ("blank_lines_only", "worker,seconds\n\n\n", "no steps"),
    ("words", "worker,seconds\n0,1\n0,fast\n", "line 3"),
    ("negative", "worker,seconds\n0,-1\n", "line 2"),
    ("zero", "worker,seconds\n0,0\n", "line 2"),
    ("nan", "worker,seconds\n0,nan\n", "line 2"),
    ("infinite", "worker,seconds\n0,1\n0,1\n0,inf\n", "line 4"),
    ("short_line", "worker,seconds\n0\n", "line 2"),
    ("empty_field", "worker,seconds\n0,\n", "line 2"),
    ("no_worker", "worker,seconds\n,1\n", "line 2"),
    ("worker_is_a_word", "worker,seconds\nchief,1\n", "line 2"),
    ("worker_is_a_fraction", "worker,seconds\n0.5,1\n", "line 2"),
    ("rest_is_a_word", "worker,seconds,rest_seconds\n0,1,long\n", "line 2"),
    ("rest_negative", "worker,seconds,rest_seconds\n0,1,-1\n", "line 2"),
    ("rest_infinite", "worker,seconds,rest_seconds\n0,1,inf\n", "line 2"),
    ("rest_nan", "worker,seconds,rest_seconds\n0,1,nan\n", "line 2"),
    ("not_text", b"\xff\xfe\x00\x80worker", ""),
    ("not_text_later", b"worker,seconds\n0,1\n\xff\xfe\x80,1\n", ""),
    ("nul", b"worker,seconds\n0,1\n\x00\x00\n", ""),
    ("endless_field", "worker,seconds\n0,1\n0," + "1" * 200_000 + "\n", ""),
    ("open_quote", 'worker,seconds\n0,"' + "1\n" * 100_000, ""),
  )
  def test_malformed(self, content, message):
    path = self.write(content)
    with self.assertRaisesRegex(errors.UserError, message) as caught:
      delays.Trace(path)
    self.assertIn(path, str(caught.exception))
    self.assertNotIn("\n", str(caught.exception))

  def test_missing(self):
    path = os.path.join(self.create_tempdir().full_path, "none.csv")
    with self.assertRaisesRegex(errors.UserError, "No such file") as caught:
      delays.Trace(path)
    self.assertIn(path, str(caught.exception))
    self.assertNotIn("\n", str(caught.exception))

  def test_directory(self):
    path = self.create_tempdir().full_path
    with self.assertRaisesRegex(errors.UserError, "cannot read") as caught:
      delays.Trace(path)
    self.assertIn(path, str(caught.exception))
    self.assertNotIn("\n", str(caught.exception))

  def test_impossible_path(self):
    with self.assertRaises(errors.UserError) as caught:
      delays.Trace("nul\0.csv")
    self.assertNotIn("\n", str(caught.exception))

  @parameterized.parameters(None, 7.5)
  def test_no_path(self, path):
    with self.assertRaises(TypeError):
      delays.Trace(path)


class ConfigTest(_FileTestCase):
  @parameterized.named_parameters(
    ("constant", delays.Constant(seed=2)),
    ("homogeneous", delays.Homogeneous(0.25, seed=3)),
    ("heterogeneous", delays.Heterogeneous(0.5, 0.25, seed=4)),
    ("heavy_tailed", delays.HeavyTailed(2.5, seed=5)),
  )
  def test_round_trip(self, model):
    self._check(model)

  def test_round_trip_of_a_trace(self):
    self._check(delays.Trace(self.write(_TRACE), seed=6))

  def test_a_model_is_loaded_without_the_file_of_its_trace(self):
    trace = self.write(_TRACE)
    folder = pathlib.Path(trace).parent
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    model.compile(
      lc_asgd_tf.ASGD(0.1, num_workers=2, delays=delays.Trace(trace)), "mse"
    )
    x, y = np.ones([4, 2]), np.ones([4, 1])
    model.fit(x, y, verbose=0)
    model.save(folder / "model.keras")
    os.remove(trace)
    with self.assertRaisesRegex(
      errors.UserError, "cannot read the trace.*compile=False"
    ):
      keras.models.load_model(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras", compile=False)
    np.testing.assert_array_equal(
      loaded.predict(x, verbose=0), model.predict(x, verbose=0)
    )

  def _check(self, model):
    for restored in (
      type(model).from_config(model.get_config()),
      keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(model)
      ),
    ):
      self.assertIs(type(restored), type(model))
      self.assertEqual(restored.get_config(), model.get_config())
      np.testing.assert_array_equal(restored.table(3), model.table(3))


class ArgumentsTest(parameterized.TestCase):
  @parameterized.product(
    new=(
      lambda value: delays.Homogeneous(variation=value),
      lambda value: delays.Heterogeneous(variation=value),
      lambda value: delays.Heterogeneous(spread=value),
      lambda value: delays.HeavyTailed(tail=value),
    ),
    value=(0, -0.5, float("nan"), float("inf"), "fast", None),
  )
  def test_refuses_what_is_not_positive(self, new, value):
    with self.assertRaisesRegex(ValueError, f"positive number, got {value!r}"):
      new(value)

  @parameterized.parameters(
    ("variation", lambda: delays.Homogeneous(variation=-1.0)),
    ("variation", lambda: delays.Heterogeneous(variation=-1.0)),
    ("spread", lambda: delays.Heterogeneous(spread=-1.0)),
    ("tail", lambda: delays.HeavyTailed(tail=-1.0)),
    ("tail", lambda: delays.HeavyTailed(tail=1.0)),
    ("tail", lambda: delays.HeavyTailed(tail=0.5)),
  )
  def test_names_the_argument(self, name, new):
    with self.assertRaisesRegex(ValueError, f"^{name} must be .*, got "):
      new()

  @parameterized.parameters(
    delays.Constant,
    delays.Homogeneous,
    delays.Heterogeneous,
    delays.HeavyTailed,
  )
  def test_refuses_bad_seeds(self, new):
    for seed in ("x", 0.5, None):
      with self.assertRaisesRegex(TypeError, "seed must be an int, got"):
        new(seed=seed)
    with self.assertRaisesRegex(ValueError, "seed must be at least 0, got -1"):
      new(seed=-1)
    with self.assertRaises(TypeError):
      new(no_such_argument=1)

  def test_the_base_draws_nothing(self):
    with self.assertRaises(NotImplementedError):
      delays.Delays().table(2)


if __name__ == "__main__":
  absltest.main()
