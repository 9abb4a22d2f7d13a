import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest

from lc_asgd_tf.normalization import Kind
from lc_asgd_tf.server import buffers

_VALUES = (
  np.array([7, 1], np.uint32),
  np.array([1.0, 2.0], np.float32),
  np.array(5.0, np.float32),
  np.array([[3.0]], np.float32),
)
_KINDS = (
  (Kind.COUNTER, 0.0),
  (Kind.MOVING_STATISTIC, 0.5),
  (Kind.LATEST, 0.0),
  (Kind.MOVING_STATISTIC, 0.75),
)


def _buffers():
  return buffers.Buffers(
    [keras.Variable(v, dtype=v.dtype.name, trainable=False) for v in _VALUES],
    _KINDS,
  )


class BuffersTest(absltest.TestCase):
  def _assert_holds(self, state, expected):
    values = state.values({id(v): v.value for v in state.variables})
    again = state.unpack(state.contents())
    for actual, packed, value in zip(values, again, expected, strict=True):
      np.testing.assert_array_equal(actual, value)
      np.testing.assert_array_equal(packed, value)
      self.assertEqual(actual.dtype, value.dtype)

  def test_keep_the_models_order(self):
    state = _buffers()
    self._assert_holds(state, _VALUES)
    # The moving statistics are one variable.
    self.assertLen(state.variables, 3)

  def test_merge_each_as_its_kind_does(self):
    state = _buffers()
    state.merge(state.pack([tf.ones_like(v) for v in _VALUES]), None)
    merged = [
      np.array([8, 2], np.uint32),
      np.array([1.5, 2.0], np.float32),
      np.array(1.0, np.float32),
      np.array([[3.25]], np.float32),
    ]
    self._assert_holds(state, merged)
    state.merge(state.pack(_VALUES), tf.constant(False))
    self._assert_holds(state, merged)

  def test_can_be_set(self):
    state = _buffers()
    values = [v + np.ones_like(v) for v in _VALUES]
    state.assign(values)
    self._assert_holds(state, values)

  def test_may_be_none(self):
    state = buffers.Buffers([], [])
    self.assertEqual(state.size, 0)
    state.merge(state.pack([]), tf.constant(True))
    self.assertEqual(state.contents().shape, (0,))
    self.assertEmpty(state.variables)


if __name__ == "__main__":
  absltest.main()
