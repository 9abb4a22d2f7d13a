"""Finds TFDS data sets by name and prepares them on disk.

Everything that can go wrong here is something that the user can put right (a
misspelt name, no network, a full disk), and ends as a one-line `UserError`.
"""

import contextlib
import difflib
import os
import pathlib
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator

import tensorflow as tf
import tensorflow_datasets as tfds

from lc_asgd_tf import errors
from lc_asgd_tf.datasets import bundled


def find_builder(
  name: str, data_dir: str | os.PathLike[str] | None = None
) -> tfds.core.DatasetBuilder:
  """Finds the builder of a data set, among the registered and the prepared.

  Args:
    name: `name`, `name/config` or `name/config:version`, as in TFDS.
    data_dir: directory of prepared data sets; the default is that of TFDS
      (`$TFDS_DATA_DIR`, else `~/tensorflow_datasets`). A data set that is
      prepared there is found even if TFDS has no code for it.

  Returns:
    The builder; the data set need not be prepared yet.

  Raises:
    UserError: if no data set has this name, or the name is malformed, or names
      a configuration or version that does not exist.
  """
  data_dir = None if data_dir is None else os.path.expanduser(data_dir)
  try:
    return tfds.builder(name, data_dir=data_dir)
  except tfds.core.DatasetNotFoundError as error:
    place = "" if data_dir is None else f" and is not prepared in {data_dir}"
    raise errors.UserError(
      f"data set {name!r} is not known to TensorFlow Datasets{place}"
      f"{_suggestion(name, data_dir)}"
    ) from error
  except Exception as error:  # A builder's constructor may raise anything.
    raise errors.UserError(
      f"data set {name!r} cannot be loaded: {_first_line(error)}"
    ) from error


def prepare(
  builder: tfds.core.DatasetBuilder, *, download: bool = True
) -> None:
  """Makes sure that a data set is on disk, in the builder's data directory.

  Does nothing, and uses no network, if the data set is prepared already. What
  TFDS reports while it works goes to standard error; its progress bars are
  turned off for the rest of the process unless standard error is a terminal.

  Args:
    builder: from `find_builder`.
    download: whether a data set that is not prepared may be downloaded (or
      generated) now.

  Raises:
    UserError: if the data set is not prepared and cannot or must not be.
  """
  if not builder.data_path.exists():
    if not download:
      raise errors.UserError(
        f"data set {builder.name!r} is not prepared in"
        f" {builder.data_dir_root}, and downloading is off"
      )
    _download_and_prepare(builder)
  if not builder.info.splits:
    raise errors.UserError(
      f"data set {builder.name!r} in {builder.data_path} is incomplete;"
      " remove that directory and prepare it again"
    )


@contextlib.contextmanager
def first_writer_wins(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
  """Lets several processes prepare one data set in the same directory.

  TFDS writes into a temporary directory of its own and renames it at the end.
  The rename is atomic, so readers never see half a data set, but it fails in
  every process except the first. Here the others take the files of the first.

  Args:
    builder: the builder whose `download_and_prepare` the block calls.

  Yields:
    Once, to the block.

  Raises:
    OSError: as the block raised it, if no process has prepared the data set.
  """
  try:
    yield
  except OSError:
    if not builder.data_path.exists():
      raise
  # What is on disk counts, whoever wrote it: a builder made before another
  # process finished knows no splits yet.
  builder.info.read_from_directory(builder.data_dir)


def hide_progress_from_files() -> None:
  """Turns TFDS's progress bars off, unless standard error is a terminal."""
  if not sys.stderr.isatty():
    tfds.disable_progress_bar()


def _download_and_prepare(builder: tfds.core.DatasetBuilder) -> None:
  """Runs TFDS's preparation; any failure becomes one line."""
  _check_network(builder)
  hide_progress_from_files()
  # Standard output belongs to the program's results.
  report = contextlib.redirect_stdout(sys.stderr)
  try:
    with first_writer_wins(builder), report:
      builder.download_and_prepare()
  except Exception as error:  # Downloads and builders may raise anything.
    raise errors.UserError(
      f"data set {builder.name!r} could not be prepared in"
      f" {builder.data_dir_root}: {_first_line(error)}"
    ) from error


def _check_network(builder: tfds.core.DatasetBuilder) -> None:
  """Fails at once where TFDS would retry an unreachable host for minutes.

  Only spares the wait: where it cannot tell, TFDS tries and reports. It cannot
  tell behind a proxy, which resolves names itself, nor when files were
  downloaded earlier, which TFDS uses without a network.

  Args:
    builder: the builder of a data set that is not prepared.

  Raises:
    UserError: if there are hosts to download from and none has an address.
  """
  urls = [urllib.parse.urlsplit(url) for url in builder.url_infos or ()]
  hosts = {url.hostname for url in urls if url.hostname}
  downloads = pathlib.Path(builder.data_dir_root) / "downloads"
  has_downloads = any(path.is_file() for path in downloads.rglob("*"))
  if not hosts or has_downloads or urllib.request.getproxies():
    return
  if not any(_has_address(host) for host in hosts):
    raise errors.UserError(
      f"data set {builder.name!r} is not prepared in {builder.data_dir_root},"
      f" and there is no network to download it from {min(hosts)}"
    )


def _has_address(host: str) -> bool:
  """Whether the name of a host resolves."""
  try:
    socket.getaddrinfo(host, None)
  except OSError:
    return False
  return True


def _suggestion(name: str, data_dir: str | None) -> str:
  """Says which known names are close to `name`; empty if none is."""
  known = {*tfds.list_builders(with_community_datasets=False), *bundled.BUNDLED}
  if data_dir is not None and tf.io.gfile.isdir(data_dir):
    # TensorFlow lists directories of buckets with a slash at the end.
    known.update(entry.rstrip("/") for entry in tf.io.gfile.listdir(data_dir))
  bare = name.split("/")[0].split(":")[0].lower()
  close = difflib.get_close_matches(bare, sorted(known), n=3)
  return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def _first_line(error: Exception) -> str:
  """The kind of an error and the first line that it says."""
  lines = str(error).strip().splitlines()
  kind = type(error).__name__
  return f"{kind}: {lines[0]}" if lines else kind
