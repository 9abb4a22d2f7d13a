"""Tests for which ps task holds which variable."""

import keras
import numpy as np
from absl.testing import absltest, parameterized

from lc_asgd_tf import models
from lc_asgd_tf.parameter_server import placement


def _resnet20():
  return models.create("resnet20", (32, 32, 3), 10)


def _resnet50():
  return keras.applications.ResNet50(weights=None)


class PlacementTest(parameterized.TestCase):
  @parameterized.parameters(
    (_resnet20, (2, 3, 4), 0.10), (_resnet50, (2, 4, 8), 0.01)
  )
  def test_loads_are_balanced(self, network, tasks, tolerance):
    sizes = [v.shape.num_elements() for v in network().trainable_variables]
    for num_tasks in tasks:
      loads = [
        sum(sizes[i] for i in items)
        for items in placement.balance(sizes, num_tasks)
      ]
      np.testing.assert_allclose(loads, np.mean(loads), rtol=tolerance)

  @parameterized.parameters(([], 3), ([5], 3), ([1, 2, 3, 4, 5, 5], 2))
  def test_every_item_has_one_task(self, sizes, num_tasks):
    parts = placement.balance(sizes, num_tasks)
    self.assertLen(parts, num_tasks)
    items = [item for part in parts for item in part]
    self.assertCountEqual(items, range(len(sizes)))
    for part in parts:
      self.assertEqual(part, sorted(part))


if __name__ == "__main__":
  absltest.main()
