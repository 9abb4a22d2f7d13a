"""From flags to objects."""

import types

from absl.testing import absltest, parameterized

from lc_asgd_tf import errors
from trainers import build


def _training(steps_per_epoch=None):
  return types.SimpleNamespace(steps_per_epoch=steps_per_epoch)


def _data(batch_size=32, augment=False):
  return types.SimpleNamespace(batch_size=batch_size, augment=augment)


def _dataset(num_train=1437, shape=(8, 8, 1)):
  return types.SimpleNamespace(
    num_train=num_train, input_shape=shape, name="mine"
  )


class BuildTest(parameterized.TestCase):
  @parameterized.parameters(
    # (asked for, multiple, steps): 44 batches of 32, in whole rounds.
    (None, 1, 44),
    (None, 8, 40),
    (None, 64, 64),
    (7, 8, 7),
  )
  def test_steps_per_epoch(self, asked_for, multiple, expected):
    steps = build.steps_per_epoch(
      _training(asked_for), _data(), _dataset(), multiple
    )
    self.assertEqual(steps, expected)

  def test_only_images_are_augmented(self):
    build.check_augmentation(_data(augment=True), _dataset())
    build.check_augmentation(_data(), _dataset(shape=(30,)))
    with self.assertRaisesRegex(
      errors.UserError, "^--augment: .*'mine' has no"
    ):
      build.check_augmentation(_data(augment=True), _dataset(shape=(30,)))

  def test_a_continued_run_reads_in_another_order(self):
    self.assertEqual(build.order_seed(5, 0), 5)
    seeds = [
      build.order_seed(seed, epoch) for seed in (0, 1) for epoch in (1, 2)
    ]
    self.assertLen(set(seeds), 4)
    self.assertEqual(seeds[0], build.order_seed(0, 1))
    for seed in seeds:
      self.assertBetween(seed, 0, 2**31 - 1)


if __name__ == "__main__":
  absltest.main()
