import os
import signal
import threading
import time
from unittest import mock

import tensorflow as tf
from absl.testing import absltest

from lc_asgd_tf.parameter_server import dispatch_result
from tests.parameter_server import cluster_case

_FETCHES = 300


def beside_a_dead_worker(strategy, cluster):
  """Results of one worker come home while those of another do not."""
  del strategy

  def on_worker(task):
    with tf.device(f"/job:worker/task:{task}"):
      return dispatch_result.DispatchResult(tf.range(3.0))

  of_the_living = on_worker(0)
  of_the_dead = [on_worker(1) for _ in range(_FETCHES)]
  os.kill(cluster.pids["worker 1"], signal.SIGKILL)
  errors = []

  def fetch_from_the_dead():
    for result in of_the_dead:
      try:
        tf.identity(result)
      except tf.errors.OpError as error:
        errors.append(str(error))
      time.sleep(0.001)

  thread = threading.Thread(target=fetch_from_the_dead)
  thread.start()
  fetched = []
  while thread.is_alive():
    fetched.append(tf.identity(of_the_living).tolist())
  thread.join()
  return {"fetched": fetched, "errors": errors}


class TwoWorkersTest(cluster_case.ClusterTestCase):
  MODULE = __name__
  NUM_WORKERS = 2
  SCENARIOS = ("beside_a_dead_worker",)

  def test_comes_home_beside_a_dead_worker(self):
    fetched = self.results["beside_a_dead_worker"]["fetched"]
    self.assertGreater(len(fetched), 10)
    self.assertEqual(fetched, [[0, 1, 2]] * len(fetched))

  def test_the_error_says_whose_result_it_is(self):
    errors = self.results["beside_a_dead_worker"]["errors"]
    self.assertLen(errors, _FETCHES)
    self.assertEmpty([e for e in errors if "/job:worker" not in e])

  def test_no_error_is_raised_twice(self):
    self.assertNotIn("Exception ignored", self.stderr)


class CancelledTest(absltest.TestCase):
  def test_names_the_worker(self):
    tensor = mock.Mock(device="/job:worker/replica:0/task:3/device:CPU:0")
    tensor.numpy.side_effect = tf.errors.CancelledError(None, None, "is gone")
    with self.assertRaisesRegex(
      tf.errors.CancelledError, "/job:worker/replica:0/task:3/.* is gone"
    ):
      dispatch_result._fetch(mock.Mock(packed=tensor))


if __name__ == "__main__":
  absltest.main()
