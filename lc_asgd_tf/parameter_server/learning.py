"""Keeps the predictors up to date beside the pushes."""

import threading
import time
from collections.abc import Callable

from absl import logging

from lc_asgd_tf.parameter_server import remote_server

# At most these shares of the time go into it, so that predictors never compete
# with the pushes for the ps task's cores. Forecasts are drawn often, since an
# old one says little; that takes a fraction of a millisecond there, and the
# rest is waiting.
_FOLLOWING = 0.4
_TRAINING = 0.02
_MIN_PAUSE_SECONDS = 0.05
_MAX_PAUSE_SECONDS = 1.0


class Learning:
  """Lets a server's predictors follow the reports, and learn, inside a `with`.

  Each in a thread of its own: training takes seconds when it begins.
  """

  def __init__(self, remote: remote_server.RemoteServer) -> None:
    self._remote = remote
    self._stop = threading.Event()
    self._threads = [
      threading.Thread(
        target=self._repeat, args=arguments, name=name, daemon=True
      )
      for name, *arguments in (
        ("forecasts", remote.follow, _FOLLOWING),
        ("predictors", remote.learn, _TRAINING),
      )
    ]

  def __enter__(self) -> "Learning":
    # The first call also compiles, a second during which the first forecast
    # would grow old, when the loss falls most.
    self._remote.follow()
    for thread in self._threads:
      thread.start()
    return self

  def __exit__(self, *error) -> None:
    self._stop.set()
    for thread in self._threads:
      thread.join()

  def _repeat(self, function: Callable[[], None], share: float) -> None:
    """Calls a function for at most a share of the time."""
    pause = _MIN_PAUSE_SECONDS
    is_first = True
    while not self._stop.wait(pause):
      began = time.monotonic()
      try:
        function()
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
        max(_MIN_PAUSE_SECONDS, took * (1 - share) / share), _MAX_PAUSE_SECONDS
      )
