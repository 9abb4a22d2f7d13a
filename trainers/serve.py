"""Serves one worker or ps task of a cluster: the program lc-asgd-serve.

The environment variable TF_CONFIG says what the cluster is and which of its
tasks this is:

    TF_CONFIG='{"cluster": {"chief": ["host0:2222"],
                            "worker": ["host1:2222", "host2:2222"],
                            "ps": ["host3:2222"]},
                "task": {"type": "worker", "index": 0}}' lc-asgd-serve

Start one for each worker and each ps, then lc-asgd-train with the same cluster
and the task {"type": "chief", "index": 0}. A task serves until it gets SIGTERM
or Ctrl-C; it keeps nothing on disk.

Security: TensorFlow's server has no authentication and listens on all network
interfaces, whatever TF_CONFIG says. Whoever reaches its port can run code with
this user's rights. Use it on a trusted network only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

from absl import app, logging

from trainers import program

if TYPE_CHECKING:
  import tensorflow as tf

  from lc_asgd_tf.cluster.specification import ClusterSpecification

# Set by `lc_asgd_tf.cluster.LocalCluster`: standard input is a socket whose
# other end the coordinator holds. `lc_asgd_tf/cluster/local.py` says why.
_EXIT_WITH_PARENT = "LC_ASGD_EXIT_WITH_PARENT"
_LIFELINE = 0


def main(argv: list[str]) -> NoReturn:
  """Serves the task of TF_CONFIG until a signal ends the process.

  Raises:
    UserError: If TF_CONFIG is malformed or is not of a worker or ps, or the
      port cannot be opened.
  """
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument: {argv[1]!r}")
  # Imported here, so that `--help` and a bad flag wait for nothing.
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
  if _has_lifeline():
    with contextlib.suppress(OSError):  # The reader deals with a lost parent.
      os.write(_LIFELINE, b"\n")
  signals.recv(1)
  # Nothing is left to tidy up, and TensorFlow's server cannot be stopped: the
  # end of the process ends it.
  os._exit(0)


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


def _has_lifeline() -> bool:
  return os.environ.get(_EXIT_WITH_PARENT) == "1"


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


def _leave_out_keras() -> None:
  """Keeps this process from importing Keras, which a server never calls.

  Keras and what it imports are half of a server's start-up time. TensorFlow
  imports it eagerly but does without if that fails, as None makes it; and the
  package `lc_asgd_tf` is entered without its `__init__`, which imports Keras
  for the public API and on which the modules of `cluster` do not depend.
  """
  sys.modules.setdefault("keras", None)
  if "lc_asgd_tf" not in sys.modules:
    package = importlib.util.find_spec("lc_asgd_tf")
    sys.modules["lc_asgd_tf"] = importlib.util.module_from_spec(package)


def run() -> NoReturn:
  """The console script lc-asgd-serve."""
  if _has_lifeline():
    _exit_with_parent()
  _leave_out_keras()
  program.run(main)


if __name__ == "__main__":
  run()
