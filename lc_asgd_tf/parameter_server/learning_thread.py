"""Trains the predictors beside the pushes."""

import threading
import time

from absl import logging

from lc_asgd_tf.parameter_server import remote_server

# At most this share of the time goes into training the predictors, so that
# they never compete with the pushes for the ps task's cores.
_DUTY = 0.03
_MIN_PAUSE_SECONDS = 0.05
# The first call also compiles; what it took says nothing of the next one.
_MAX_PAUSE_SECONDS = 1.0


class LearningThread:
  """Calls `RemoteServer.learn` in a background thread, inside a `with`."""

  def __init__(self, remote: remote_server.RemoteServer) -> None:
    self._remote = remote
    self._stop = threading.Event()
    self._thread = threading.Thread(
      target=self._run, name="predictors", daemon=True
    )

  def __enter__(self) -> "LearningThread":
    self._thread.start()
    return self

  def __exit__(self, *error) -> None:
    self._stop.set()
    self._thread.join()

  def _run(self) -> None:
    pause = _MIN_PAUSE_SECONDS
    while not self._stop.wait(pause):
      began = time.monotonic()
      try:
        self._remote.learn()
      # The predictions grow old, but training goes on; if the ps task is gone,
      # the coordinator hears of it from the pushes.
      except Exception as error:
        logging.error("The predictors stopped learning: %s", error)
        return
      took = time.monotonic() - began
      pause = min(
        max(_MIN_PAUSE_SECONDS, took * (1 - _DUTY) / _DUTY), _MAX_PAUSE_SECONDS
      )
