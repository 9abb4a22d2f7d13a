"""Keeps TensorFlow's own messages out of the user's terminal."""

import io
import os
import shutil
import sys
import tempfile
import traceback
import warnings

from absl import logging

_STDERR = 2


class Noise:
  """What C++ code, loggers, warnings and destructors print, from now on.

  `sys.stdout` and `sys.stderr` stay the user's. The process's file descriptor
  2, to which TensorFlow's C++ code writes while it is imported and ever after,
  becomes a file: first a temporary one, then that of `keep_in`.
  """

  def __init__(self) -> None:
    sys.stderr.flush()
    sys.stderr = os.fdopen(
      os.dup(_STDERR), "w", buffering=1, errors="backslashreplace"
    )
    self._early = tempfile.TemporaryFile()
    os.dup2(self._early.fileno(), _STDERR)
    stream = _Descriptor()
    logging.use_absl_handler()
    logging.get_absl_handler().python_handler.stream = stream

    def show(message, category, filename, lineno, file=None, line=None):
      text = warnings.formatwarning(message, category, filename, lineno, line)
      (file or stream).write(text)

    warnings.showwarning = show

    # As of TensorFlow's executors, of which some end after their tasks.
    def ignore(raised):
      stream.write(f"{raised.err_msg or 'Exception ignored in'}: ")
      stream.write(f"{raised.object!r}\n")
      stream.write("".join(traceback.format_exception(raised.exc_value)))

    sys.unraisablehook = ignore

  def keep_in(self, path: str | os.PathLike[str]) -> None:
    """Appends what there was so far, and is to come, to a file.

    Raises:
      UserError: if it cannot be written.
    """
    try:
      log = open(path, "ab")
    except OSError as error:
      # Not at the top: it would load TensorFlow before `main` wants it.
      from lc_asgd_tf import errors

      raise errors.UserError(
        f"cannot write {path}: {error.strerror}."
      ) from error
    with log:
      self._early.seek(0)
      shutil.copyfileobj(self._early, log)
      log.flush()
      os.dup2(log.fileno(), _STDERR)
    self._early.close()


class _Descriptor(io.TextIOBase):
  """Writes to file descriptor 2, whatever it is and however late it is.

  TensorFlow still logs while the interpreter shuts down, when files of Python's
  are closed already.
  """

  def write(self, text: str) -> int:
    os.write(_STDERR, text.encode(errors="replace"))
    return len(text)
