"""Tests for the data sets of the workers, without a cluster."""

import functools
from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized

from lc_asgd_tf.parameter_server import worker_data


class WorkerDataTest(parameterized.TestCase):
  @parameterized.parameters(
    (lambda: _batches(2), 2),
    (lambda context: _batches(int(context.num_input_pipelines)), 3),
    (lambda size=5: _batches(size), 5),
    (functools.partial(lambda size: _batches(size), size=7), 7),
    (lambda *sizes: _batches(9), 9),
  )
  def test_functions_of_data_get_a_context_if_they_require_it(self, x, size):
    data = worker_data.WorkerData(x, 3, lambda: 0)
    self.assertEqual(data.element_spec.shape, [size])
    self.assertEqual(data.cardinality, 1)

  @parameterized.parameters((None, False), (True, True), (False, False))
  def test_data_is_tuned_only_if_the_user_says_so(self, users, tuned):
    """The end of a tuner would keep a worker from its next `fit`."""
    options = tf.data.Options()
    if users is not None:
      options.autotune.enabled = users
    data = worker_data.WorkerData(
      lambda: _batches(2).with_options(options), 1, lambda: 0
    )
    with mock.patch.object(
      tf.distribute.coordinator,
      "experimental_get_current_worker_index",
      return_value=0,
    ):
      dataset = data.on_this_worker()
    self.assertEqual(dataset.options().autotune.enabled, tuned)


def _batches(size):
  return tf.data.Dataset.from_tensors(tf.zeros([size]))


if __name__ == "__main__":
  absltest.main()
