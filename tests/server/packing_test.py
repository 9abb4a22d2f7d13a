"""Tests for many tensors in one vector."""

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf import server

_INT64 = np.iinfo(np.int64)


def _bits(values, unsigned, dtype):
  """The numbers that have these bits."""
  return np.array(values, unsigned).view(dtype)


# Zeros of both signs, denormals, the extremes, infinities, and NaN of either
# sign with payloads, as bits: comparing numbers would not tell them apart.
def _numbers(values):
  return values[~np.isnan(values.astype("float32"))]


_BFLOAT16 = tf.bfloat16.as_numpy_dtype
_VALUES = {
  "float32": _bits(
    [
      *(0, 0x80000000, 1, 0x80000001, 0x007FFFFF, 0x00800000, 0x3F800000),
      *(0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7FC12345),
      *(0xFFC00000, 0xFFFFFFFF),
    ],
    "uint32",
    "float32",
  ),
  "float64": _bits(
    [
      *(0, 1 << 63, 1, 0x000FFFFFFFFFFFFF, 0x3FF0000000000001),
      *(0x7FEFFFFFFFFFFFFF, 0x7FF0000000000000, 0xFFF0000000000000),
      *(0x7FF8000000000000, 0x7FF8000012345678, 0xFFF8000000000001),
    ],
    "uint64",
    "float64",
  ),
  "int64": np.array(
    [0, 1, -1, 2**24 + 1, 2**53 + 1, _INT64.min, _INT64.max], "int64"
  ),
  "int32": np.array([0, 1, -1, 2**24 + 1, -(2**31), 2**31 - 1], "int32"),
  "uint32": np.array([0, 1, 2**24 + 1, 0x7FC00001, 2**32 - 1], "uint32"),
  # Every value that has 16 bits; only those of NaN are not kept.
  "float16": _numbers(np.arange(2**16, dtype="uint16").view("float16")),
  "bfloat16": _numbers(np.arange(2**16, dtype="uint16").view(_BFLOAT16)),
  "int8": np.array([0, -128, 127], "int8"),
  "uint8": np.array([0, 1, 255], "uint8"),
  "uint16": np.array([0, 1, 65535], "uint16"),
  "bool": np.array([True, False, True]),
}


def _round_trip(values, jit_compile):
  packing = server.Packing(
    [tf.TensorSpec(value.shape, value.dtype) for value in values]
  )
  pack = tf.function(packing.pack, jit_compile=jit_compile, autograph=False)
  unpack = tf.function(packing.unpack, jit_compile=jit_compile, autograph=False)
  vector = pack([tf.constant(value) for value in values])
  assert vector.shape == packing.spec.shape and vector.dtype == tf.float32
  return unpack(vector)


class PackingTest(parameterized.TestCase):
  def assert_same_bits(self, actual, expected):
    actual = actual.numpy()
    self.assertEqual(actual.dtype, expected.dtype)
    self.assertEqual(actual.shape, expected.shape)
    self.assertEqual(actual.tobytes(), expected.tobytes())

  @parameterized.product(dtype=list(_VALUES), jit_compile=(False, True))
  def test_round_trip_keeps_every_bit(self, dtype, jit_compile):
    values = _VALUES[dtype]
    (actual,) = _round_trip([values], jit_compile)
    self.assert_same_bits(actual, values)

  def test_arrays_are_unpacked_likewise(self):
    values = [*_VALUES.values(), np.array(2**40, "int64"), np.zeros([2, 0])]
    packing = server.Packing(
      [tf.TensorSpec(value.shape, value.dtype) for value in values]
    )
    vector = packing.pack([tf.constant(value) for value in values])
    arrays = packing.unpack_array(vector.numpy())
    for actual, expected in zip(arrays, packing.unpack(vector), strict=True):
      self.assertEqual(actual.dtype, expected.dtype)
      self.assertEqual(actual.shape, expected.shape)
      self.assertEqual(actual.tobytes(), expected.numpy().tobytes())

  @parameterized.parameters(False, True)
  def test_round_trip_of_many_shapes(self, jit_compile):
    values = [
      np.arange(6, dtype="float32").reshape(2, 3),
      np.float64(1 / 3).reshape(()),
      np.array([[[2**62 + 1]], [[-7]]], "int64"),
      np.zeros([0, 4], "float32"),
      np.array([5, 2**32 - 1], "uint32"),
      np.array([[True], [False]]),
      np.array([1.5, -2.5], "float16"),
      np.array(2.5, _BFLOAT16),
    ]
    actual = _round_trip(values, jit_compile)
    for one, other in zip(actual, values, strict=True):
      self.assert_same_bits(one, np.asarray(other))

  @parameterized.product(
    dtype=("float32", "float64", "int64", "int32", "uint32"),
    jit_compile=(False, True),
  )
  def test_round_trip_keeps_random_bits(self, dtype, jit_compile):
    values = np.frombuffer(np.random.default_rng(0).bytes(2**14), dtype)
    (actual,) = _round_trip([values], jit_compile)
    self.assert_same_bits(actual, values)

  def test_size_counts_float32(self):
    specs = [
      tf.TensorSpec([2, 3], "float32"),
      tf.TensorSpec([], "int64"),
      tf.TensorSpec([5], "float16"),
      tf.TensorSpec([2], "uint32"),
      tf.TensorSpec([3], "float64"),
    ]
    self.assertEqual(server.Packing(specs).size, 6 + 2 + 5 + 2 + 6)

  @parameterized.parameters(False, True)
  def test_nothing_packs_into_nothing(self, jit_compile):
    packing = server.Packing([])
    self.assertEqual(packing.size, 0)
    self.assertEqual(_round_trip([], jit_compile), [])

  @parameterized.parameters(False, True)
  def test_reads_no_further_than_its_own(self, jit_compile):
    packing = server.Packing([tf.TensorSpec([2], "float32")])
    unpack = tf.function(
      packing.unpack, jit_compile=jit_compile, autograph=False
    )
    (actual,) = unpack(tf.constant([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(actual, [1.0, 2.0])

  def test_casts_to_the_dtype_of_the_specification(self):
    packing = server.Packing([tf.TensorSpec([1], "int64")])
    (actual,) = packing.unpack(packing.pack([tf.constant([7], tf.int32)]))
    self.assert_same_bits(actual, np.array([7], "int64"))

  @parameterized.parameters(0, 1, 3)
  def test_refuses_another_number_of_tensors(self, count):
    packing = server.Packing([tf.TensorSpec([], "float32")] * 2)
    with self.assertRaisesRegex(ValueError, f"2 tensors to pack, got {count}"):
      packing.pack([tf.constant(1.0)] * count)

  @parameterized.parameters(([3],), ([],))
  def test_refuses_another_size(self, shape):
    packing = server.Packing(
      [tf.TensorSpec([2], "float32"), tf.TensorSpec([2], "float32")]
    )
    with self.assertRaises((ValueError, tf.errors.InvalidArgumentError)):
      packing.pack([tf.ones(shape), tf.ones([2])])

  def test_refuses_a_vector_that_is_too_short(self):
    packing = server.Packing([tf.TensorSpec([2], "float32")])
    with self.assertRaises((ValueError, tf.errors.InvalidArgumentError)):
      packing.unpack(tf.ones([1]))


if __name__ == "__main__":
  absltest.main()
