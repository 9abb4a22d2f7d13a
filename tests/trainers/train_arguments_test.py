"""What the flags of lc-asgd-train say reaches what they are about."""

from unittest import mock

import keras
from absl import flags
from absl.testing import absltest, flagsaver, parameterized

import lc_asgd_tf
from lc_asgd_tf import callbacks, datasets
from trainers import build, train

_FLAGS = (
  "lc-asgd-train",
  "--dataset=digits",
  "--model=mlp",
  "--optimizer=asgd",
  "--augment",
  "--batch_size=50",
  "--seed=5",
  "--epochs=3",
  "--steps_per_epoch=17",
  "--steps_per_dispatch=7",
  "--pull_dtype=bfloat16",
)


class TrainArgumentsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(flagsaver.flagsaver())
    self.dataset = datasets.load("digits")
    self.trainer = mock.create_autospec(lc_asgd_tf.AsyncTrainer, instance=True)
    self.make_trainer = self._patch(
      lc_asgd_tf, "AsyncTrainer", return_value=self.trainer
    )
    kind = type(self.dataset)
    self.read = self._patch(
      kind, "train", autospec=True, side_effect=kind.train
    )
    self.seed = self._patch(keras.utils, "set_random_seed")
    self._patch(datasets, "load", return_value=self.dataset)
    self._patch(build, "result")
    self._patch(train, "_connect", return_value=mock.sentinel.strategy)

  def _patch(self, owner, name, **arguments):
    return self.enter_context(mock.patch.object(owner, name, **arguments))

  def _train(self, *more):
    flags.FLAGS([*_FLAGS, *more])
    directory = mock.Mock(history_csv="h.csv", trace="t", checkpoints="c")
    train._train(mock.Mock(), None, mock.Mock(), mock.Mock(), directory)
    return self.trainer.fit.call_args

  @parameterized.parameters("async", "precise")
  def test_all_of_them(self, batch_norm):
    fitted = self._train(f"--batch_norm={batch_norm}")
    self.make_trainer.assert_called_once_with(
      mock.ANY,
      mock.sentinel.strategy,
      steps_per_dispatch=7,
      pull_dtype="bfloat16",
    )
    self.seed.assert_called_once_with(5)
    self.assertEqual(fitted.kwargs["epochs"], 3)
    self.assertEqual(fitted.kwargs["steps_per_epoch"], 17)
    kinds = list(map(type, fitted.kwargs["callbacks"]))
    self.assertEqual(
      callbacks.PreciseBatchNormalization in kinds, batch_norm == "precise"
    )
    self.assertIn(callbacks.ServerCheckpoint, kinds)
    (dataset_fn,) = fitted.args
    dataset_fn(mock.Mock(pushes=0, input_pipeline_id=2))
    self.read.assert_called_with(
      self.dataset, 50, seed=5, worker=2, augment=True
    )


if __name__ == "__main__":
  absltest.main()
