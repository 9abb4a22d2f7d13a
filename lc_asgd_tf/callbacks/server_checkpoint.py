"""Saves what the parameter server knows, so that a run can be continued."""

import os
import re

import keras
import tensorflow as tf
from absl import logging

from lc_asgd_tf import errors, parameter_server

_PATTERN = re.compile(r"[*?[\\]")

_NAME = "ckpt"
_INDEX = re.compile(r"(.*-(\d+))\.index")


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
    damage = None
    for path in reversed(self._paths()):
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
      self._state()  # Which a manager reads, too.
      self._manager = tf.train.CheckpointManager(
        checkpoint, self._directory, self._max_to_keep, checkpoint_name=_NAME
      )
    self._manager.save(checkpoint_number=epoch + 1)

  def _paths(self) -> list[str]:
    """Returns the checkpoints in the order in which they were written.

    A machine that loses power may damage TensorFlow's list of them, too, which
    is then written anew, by their numbers.
    """
    state = self._state()
    if state is not None:
      return list(state.all_model_checkpoint_paths)
    names = tf.io.gfile.glob(os.path.join(self._directory, f"{_NAME}-*.index"))
    found = [match for match in map(_INDEX.fullmatch, names) if match]
    paths = [match[1] for match in sorted(found, key=lambda m: int(m[2]))]
    if paths:
      tf.compat.v1.train.update_checkpoint_state(
        self._directory, paths[-1], all_model_checkpoint_paths=paths
      )
    return paths

  def _state(self):
    """Returns TensorFlow's list of the checkpoints, None if there is none."""
    try:
      return tf.train.get_checkpoint_state(self._directory)
    except ValueError:
      # It is empty, which TensorFlow would never get over.
      tf.io.gfile.remove(os.path.join(self._directory, "checkpoint"))
      return None
