"""Saves what the parameter server knows, so that a run can be continued."""

import os
import re

import keras
import tensorflow as tf
from absl import logging

from lc_asgd_tf import errors, parameter_server

_PATTERN = re.compile(r"[*?[\\]")


class ServerCheckpoint(keras.callbacks.Callback):
  """Writes a checkpoint of the server at the end of every epoch.

  A checkpoint has the weights, the inner optimizer's slots, versions, journal
  and predictors: all but the workers' snapshots, which a continued run pulls
  anew. Half-written checkpoints are never the latest; one that is damaged, as a
  machine leaves it that loses power, is passed over.

  Example:
  ```python
  checkpoint = lc_asgd_tf.callbacks.ServerCheckpoint(trainer, "checkpoints")
  trainer.build(dataset_fn)
  epoch = checkpoint.restore_latest()  # 0 if there is none.
  trainer.fit(
    dataset_fn, epochs=10, initial_epoch=epoch, callbacks=[checkpoint]
  )
  ```

  Args:
    trainer: the trainer whose server is meant.
    directory: where the checkpoints go; on the coordinator's file system.
    max_to_keep: how many of the latest to keep.

  Attributes:
    passed_over: how many later checkpoints `restore_latest` could not read.

  Raises:
    UserError: if the directory's name has a character of patterns, by which
      TensorFlow would not find its files again.
  """

  def __init__(
    self,
    trainer: parameter_server.AsyncTrainer,
    directory: str | os.PathLike[str],
    max_to_keep: int = 2,
  ) -> None:
    super().__init__()
    self._trainer = trainer
    self._directory = os.fspath(directory)
    if _PATTERN.search(self._directory):
      raise errors.UserError(
        f"cannot keep checkpoints in {self._directory}: TensorFlow takes *, ?, "
        "[ and \\ for patterns; choose a path without them."
      )
    self._max_to_keep = max_to_keep
    self._manager = None
    self.passed_over = 0

  def restore_latest(self) -> int:
    """Restores the latest checkpoint that can be read, if there is any.

    Returns:
      How many epochs it had seen; 0 if there is none.

    Raises:
      ValueError: if it is of another model, optimizer or cluster, or all are
        damaged.
    """
    self.passed_over = 0
    state = tf.train.get_checkpoint_state(self._directory)
    damage = None
    for path in reversed(state.all_model_checkpoint_paths if state else ()):
      try:
        self._trainer.restore(path)
      except tf.errors.NotFoundError:
        continue  # Somebody has deleted it.
      except errors.DamagedError as error:
        logging.warning("Passed over: %s", error)
        self.passed_over += 1
        damage = damage or error
        continue
      return int(path.rsplit("-", maxsplit=1)[1])
    if damage:
      raise damage
    return 0

  def on_epoch_end(self, epoch: int, logs=None) -> None:
    """Saves; the checkpoint's number is that of the epochs seen."""
    del logs
    checkpoint = self._trainer.checkpoint
    # Whoever compiles the model anew has another server.
    if self._manager is None or self._manager.checkpoint is not checkpoint:
      self._manager = tf.train.CheckpointManager(
        checkpoint, self._directory, self._max_to_keep
      )
    self._manager.save(checkpoint_number=epoch + 1)
