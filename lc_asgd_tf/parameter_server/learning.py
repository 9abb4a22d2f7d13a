"""Trains the predictors beside the pushes."""

import threading
import time

from absl import logging

from lc_asgd_tf.parameter_server import remote_server

# At most this share of the time goes into it, so that predictors never compete
# with the pushes for the ps task's cores. Forecasts do not wait for it: every
# push brings them up to date.
_SHARE = 0.02
_MIN_PAUSE_SECONDS = 0.05
_MAX_PAUSE_SECONDS = 1.0


class Learning:
  """Lets a server's predictors, if any, learn in a thread inside a `with`."""

  def __init__(self, remote: remote_server.RemoteServer) -> None:
    self._remote = remote
    self._stop = threading.Event()
    self._thread = threading.Thread(
      target=self._repeat, name="predictors", daemon=True
    )

  def __enter__(self) -> "Learning":
    if self._remote.learns:
      self._thread.start()
    return self

  def __exit__(self, *error) -> None:
    self._stop.set()
    if self._remote.learns:
      self._thread.join()

  def _repeat(self) -> None:
    pause = _MIN_PAUSE_SECONDS
    is_first = True
    while not self._stop.wait(pause):
      began = time.monotonic()
      try:
        self._remote.learn()
      # The predictions grow old, but training goes on; if the ps task is gone,
      # the coordinator hears of it from the pushes.
      except Exception as error:
        logging.error("The predictors stopped learning: %s", error)
        return
      if is_first:
        # It also prepares; what it took says nothing of the next one.
        is_first = False
        continue
      took = time.monotonic() - began
      pause = min(
        max(_MIN_PAUSE_SECONDS, took * (1 - _SHARE) / _SHARE),
        _MAX_PAUSE_SECONDS,
      )
