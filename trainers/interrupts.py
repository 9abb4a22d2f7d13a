"""Ctrl-C, even where the exception that it raises is lost."""

import signal
import threading


class Interrupts:
  """Remembers an interrupt.

  Python goes on where KeyboardInterrupt is raised within a finalizer.
  """

  def __init__(self) -> None:
    self._came = False

  def listen(self) -> None:
    """Begins to; not for programs that shells started in their background."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
      signal.signal(signal.SIGINT, self._interrupt)

  def check(self) -> None:
    """Raises KeyboardInterrupt, if one has come."""
    if self._came:
      raise KeyboardInterrupt

  def _interrupt(self, number, frame):
    self._came = True
    signal.default_int_handler(number, frame)
