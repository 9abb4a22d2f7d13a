"""Files that are whole or not there."""

import contextlib
import fcntl
import io
import os
import pathlib
from collections.abc import Callable


def write(
  path: str | os.PathLike[str], writer: Callable[[str], object]
) -> None:
  """Replaces a file by what the writer leaves at the path it is called with.

  Whoever reads the file finds the old or the new one, never a part.
  """
  path = pathlib.Path(path)
  # Another process may write the same file.
  partial = path.with_name(f"{path.stem}.partial{os.getpid()}{path.suffix}")
  try:
    writer(os.fspath(partial))
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
  """Replaces a file by a text, in UTF-8, its line ends as they are."""
  write(path, lambda partial: pathlib.Path(partial).write_bytes(text.encode()))


def append(
  path: str | os.PathLike[str],
  content: bytes,
  *,
  durable: bool = False,
  is_whole: Callable[[bytes], bool] | None = None,
) -> None:
  """Adds all of this to the end of a file, or nothing.

  Several processes may add to it.

  Args:
    path: of the file, made if needed.
    content: what to add.
    durable: whether it outlives a crash of the machine, once this returns.
    is_whole: as in `mend_last_line`, which is done before, if there is one.

  Raises:
    OSError: if there is no room for it, or the file cannot be written.
  """
  with open(path, "a+b", buffering=0) as file:
    _lock(file)
    if is_whole is not None:
      _mend(file, is_whole)
    # By now, and not when it was opened.
    end = file.seek(0, os.SEEK_END)
    written = 0
    try:
      while written < len(content):
        written += file.write(content[written:])
      if durable:
        os.fsync(file.fileno())
    except OSError:
      with contextlib.suppress(OSError):
        file.truncate(end)
      raise


def mend_last_line(
  path: str | os.PathLike[str], is_whole: Callable[[bytes], bool]
) -> None:
  """Ends a file with a whole line, so that it can be added to.

  A process that was killed may have left a part of one.

  Args:
    path: of the file.
    is_whole: whether a last line that has no end lacks nothing else; if not, it
      is dropped.
  """
  with open(path, "a+b", buffering=0) as file:
    # What another process is adding is no part any more.
    _lock(file)
    _mend(file, is_whole)


def _mend(file: io.FileIO, is_whole: Callable[[bytes], bool]) -> None:
  if not file.seek(0, os.SEEK_END):
    return
  file.seek(-1, os.SEEK_END)
  if file.read() == b"\n":
    return
  file.seek(0)
  content = file.readall()
  begin = content.rfind(b"\n") + 1
  if is_whole(content[begin:]):
    file.write(b"\n")
  else:
    file.truncate(begin)


def _lock(file) -> None:
  """Keeps other processes out until the file is closed."""
  # Not every network file system can do this.
  with contextlib.suppress(OSError):
    fcntl.flock(file, fcntl.LOCK_EX)
