"""What all programs have in common: how they start, fail and end."""

from __future__ import annotations

import errno
import functools
import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from absl import app, flags

_BAD_INPUT = 2  # Exit status, as of most Unix programs.
_INTERRUPTED = 130  # Exit status, as a shell reports SIGINT.
_UNREAD = 141  # And SIGPIPE.
_NO_ROOM = tuple(os.strerror(e) for e in (errno.ENOSPC, errno.EDQUOT))


def run(main: Callable[[list[str]], int | None]) -> NoReturn:
  """Parses the flags, calls `main`, and ends the process.

  What a user can put right (`UserError`, a bad flag, `app.UsageError`, a full
  disk) ends it with one line on standard error and status 2; Ctrl-C with one
  line and status 130, and so, with 141, does somebody who no longer reads what
  the program prints. Any other exception is a defect and shows its traceback.

  Args:
    main: Takes the program's name and the arguments that are no flags; returns
      the exit status, None for 0. The docstring of its module is what `--help`
      prints, together with that module's flags.
  """
  _make_main_module(main.__module__)
  # Where it knows ASCII only, "?" is better than no table.
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="replace")
  try:
    app.run(functools.partial(_call, main), flags_parser=_parse_flags)
  except KeyboardInterrupt:
    _exit("interrupted", _INTERRUPTED)


def _make_main_module(name: str) -> None:
  """Makes `--help` show the module, though an installed script called it."""
  sys.modules["__main__"].__doc__ = sys.modules[name].__doc__
  for flag in flags.FLAGS.get_key_flags_for_module(name):
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def _parse_flags(argv: list[str]) -> list[str]:
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    _exit(str(error), _BAD_INPUT)
  except SystemExit:
    # Only absl's help flags end up here, and with status 1; but help that was
    # asked for is no failure.
    sys.exit(0)


def _call(main: Callable[[list[str]], int | None], argv: list[str]) -> int:
  try:
    status = main(argv) or 0
    print(end="", flush=True)
    return status
  except BrokenPipeError:
    _silence(sys.stdout)
    try:
      _exit("nobody reads standard output any more", _UNREAD)
    except BrokenPipeError:
      _silence(sys.stderr)
      sys.exit(_UNREAD)
  except Exception as error:
    message = str(error)
    # In words, since that is all that TensorFlow and HDF5 pass on.
    if any(words in message for words in _NO_ROOM):
      message = f"out of disk space, make room first: {message}"
    elif not _is_bad_input(error):
      raise
    _exit(message, _BAD_INPUT)


def _silence(stream) -> None:
  """Lets nobody hear what Python would try to say once more at the end."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_bad_input(error: Exception) -> bool:
  if isinstance(error, app.UsageError):
    return True
  if not isinstance(error, ValueError):
    return False
  # Not imported at the top: that would load TensorFlow for a mere `--help`, and
  # before `main` has set the environment that TensorFlow reads.
  from lc_asgd_tf import errors

  return isinstance(error, errors.UserError)


def _exit(message: str, status: int) -> NoReturn:
  print(" ".join(message.split()), file=sys.stderr)
  sys.exit(status)
