"""From flags to objects."""

import types

import tensorflow as tf
from absl.testing import absltest, parameterized

from flags import optimizer as optimizer_flags
from lc_asgd_tf import compensation, errors
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

  def test_flags_name_all_rules(self):
    self.assertCountEqual(optimizer_flags.RULES, compensation.RULES)

  @parameterized.product(
    rule=optimizer_flags.RULES, inner=optimizer_flags.INNER_OPTIMIZERS
  )
  def test_optimizer(self, rule, inner):
    options = optimizer_flags.OptimizerOptions(
      optimizer=rule,
      inner_optimizer=inner,
      learning_rate=0.25,
      momentum=0.5,
      nesterov=inner == "sgd" and rule != "dana",
      weight_decay=0.125,
      lambda_0=3.0,
      loss_predictor="holt",
      horizon="predicted",
    )
    optimizer = build.optimizer(options)
    self.assertIsInstance(optimizer.compensation, compensation.RULES[rule])
    hosted = optimizer.inner_optimizer
    self.assertEqual(type(hosted).__name__.lower(), inner)
    self.assertEqual(float(hosted.learning_rate), 0.25)
    self.assertEqual(hosted.weight_decay, 0.125)
    config = optimizer.compensation.get_config()
    if rule == "dana":
      self.assertEqual(config["momentum"], 0.5)
    if inner == "sgd":
      # A momentum per worker in place of the server's.
      self.assertEqual(hosted.momentum, 0.0 if rule == "dana" else 0.5)
      self.assertEqual(hosted.nesterov, rule != "dana")
    if rule.startswith("dc_asgd"):
      self.assertEqual(config["lambda_0"], 3.0)
    if rule == "lc_asgd":
      self.assertEqual(config["horizon"], "predicted")
      predictor = optimizer.loss_predictor
      self.assertEqual(type(predictor).__name__, "HoltLossPredictor")

  def test_only_images_are_augmented(self):
    build.check_augmentation(_data(augment=True), _dataset())
    build.check_augmentation(_data(), _dataset(shape=(30,)))
    with self.assertRaisesRegex(
      errors.UserError, "^--augment: .*'mine' has no"
    ):
      build.check_augmentation(_data(augment=True), _dataset(shape=(30,)))

  def test_a_continued_run_reads_in_another_order(self):
    self.assertEqual(build.order_seed(5, 0), 5)
    largest = 2**31 - 1, 2**32 - 1
    seeds = [
      int(build.order_seed(seed, tf.constant(pushes, tf.int64)))
      for seed in (0, 1, largest[0])
      for pushes in (0, 1, largest[1])
    ]
    self.assertLen(set(seeds), 9)
    self.assertBetween(max(seeds), 0, 2**63 - 1)


if __name__ == "__main__":
  absltest.main()
