"""A worker or ps: serves its part of a cluster until it is told to end.

lc-asgd-serve calls `serve`. `LocalCluster` runs this file as a program, whose
standard input is the task's end of its lifeline: see `local.py`. Both load it
by its path, since to import it is to import `lc_asgd_tf/__init__.py`, and Keras
with it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from absl import logging

if TYPE_CHECKING:
  import tensorflow as tf

  from lc_asgd_tf.cluster.specification import ClusterSpecification

_PACKAGE = "lc_asgd_tf"
_LIFELINE = 0
_BAD_INPUT = 2  # Exit status, as of the programs.


def serve(on_serving: Callable[[], None] = lambda: None) -> NoReturn:
  """Serves the task of TF_CONFIG until a signal ends the process.

  For a process that has not imported TensorFlow yet.

  Args:
    on_serving: called once the task serves.

  Raises:
    UserError: If TF_CONFIG is malformed or is not of a worker or ps, or the
      port cannot be opened.
  """
  leave_out_keras()
  from lc_asgd_tf.cluster import ports, resources, specification
  from lc_asgd_tf.errors import UserError

  task = specification.from_environment(os.environ)
  if task.task_type == "chief":
    raise UserError("the chief is the coordinator: run lc-asgd-train for it")
  ports.check_port_free(task.address)
  os.environ.update(resources.common_environment(os.environ, task.task_type))
  resources.keep_freed_memory()

  server = _start_server(task)
  signals = _signals_to_end()
  logging.info(
    "%s %d serves at %s", task.task_type, task.task_index, server.target
  )
  on_serving()
  signals.recv(1)
  # Nothing is left to tidy up, and TensorFlow's server cannot be stopped: the
  # end of the process ends it.
  os._exit(0)


def leave_out_keras() -> None:
  """Keeps this process from importing Keras, which a server never calls.

  Keras and what it imports are half of a server's start-up time. TensorFlow
  imports it eagerly but does without if that fails, as None makes it; and the
  package is entered without its `__init__`, which imports Keras for the public
  API and on which the modules of `cluster` do not depend.
  """
  sys.modules.setdefault("keras", None)
  if _PACKAGE not in sys.modules:
    # This file's own, whatever else there is on the path.
    folder = pathlib.Path(__file__).resolve().parent.parent
    package = importlib.util.spec_from_file_location(
      _PACKAGE,
      folder / "__init__.py",
      submodule_search_locations=[str(folder)],
    )
    sys.modules[_PACKAGE] = importlib.util.module_from_spec(package)


def _start_server(task: ClusterSpecification) -> tf.distribute.Server:
  import tensorflow as tf

  from lc_asgd_tf.cluster import connection
  from lc_asgd_tf.errors import UserError

  try:
    return tf.distribute.Server(
      task.as_cluster_spec(),
      job_name=task.task_type,
      task_index=task.task_index,
      protocol="grpc",
      config=connection.session_options(),
    )
  except tf.errors.OpError as error:
    raise UserError(
      f"cannot serve at {task.address}: {error.message}"
    ) from None


def _signals_to_end() -> socket.socket:
  """Returns a socket that can be read once SIGTERM or SIGINT has arrived.

  `signal.pause` would not do: it sleeps through a signal that arrives just
  before it, or that the system delivers to one of TensorFlow's threads.
  """
  reader, writer = socket.socketpair()
  writer.setblocking(False)
  signal.set_wakeup_fd(writer.detach())
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: None)
  return reader


def _exit_with_parent() -> None:
  """Ends this process as soon as the process that started it is gone."""

  def listen():
    try:
      while os.read(_LIFELINE, 1):
        pass
      os.write(2, b"the coordinator is gone: exiting\n")
    finally:  # Whatever went wrong: no process stays behind.
      os._exit(1)

  threading.Thread(target=listen, name="lifeline", daemon=True).start()


def _tell_parent() -> None:
  with contextlib.suppress(OSError):  # The reader deals with a lost parent.
    os.write(_LIFELINE, b"\n")


def _main() -> None:
  """The process of a `LocalCluster`'s task."""
  _exit_with_parent()
  logging.use_absl_handler()
  logging.set_verbosity(logging.INFO)
  try:
    serve(on_serving=_tell_parent)
  except ValueError as error:
    from lc_asgd_tf.errors import UserError

    if not isinstance(error, UserError):
      raise
    print(error, file=sys.stderr)
    sys.exit(_BAD_INPUT)


if __name__ == "__main__":
  _main()
