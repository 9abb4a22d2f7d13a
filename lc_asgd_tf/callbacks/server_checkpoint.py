"""Saves what the parameter server knows, so that a run can be continued."""

import os
import re

import keras
import tensorflow as tf

from lc_asgd_tf import errors, parameter_server

_PATTERN = re.compile(r"[*?[\\]")


class ServerCheckpoint(keras.callbacks.Callback):
  """Writes a checkpoint of the server at the end of every epoch.

  A checkpoint has the weights, the inner optimizer's slots, versions, journal
  and predictors: all but the workers' snapshots, which a continued run pulls
  anew. Half-written checkpoints are never the latest.

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

  def restore_latest(self) -> int:
    """Restores the latest checkpoint, if any.

    Returns:
      How many epochs it had seen; 0 if there is none.

    Raises:
      ValueError: if it is of another model, optimizer or cluster.
    """
    latest = tf.train.latest_checkpoint(self._directory)
    if latest is None:
      return 0
    self._trainer.restore(latest)
    return int(latest.rsplit("-", maxsplit=1)[1])

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
