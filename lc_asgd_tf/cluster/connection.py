"""From a cluster that serves to a strategy."""

from __future__ import annotations

import concurrent.futures
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import logging

from lc_asgd_tf.cluster import resources
from lc_asgd_tf.cluster.specification import ClusterSpecification
from lc_asgd_tf.errors import UserError

if TYPE_CHECKING:
  import tensorflow as tf


def session_options() -> tf.compat.v1.ConfigProto:
  """Returns options with which idle threads sleep at once."""
  import tensorflow as tf

  return tf.compat.v1.ConfigProto(
    experimental=tf.compat.v1.ConfigProto.Experimental(
      disable_thread_spinning=True
    )
  )


# Between two attempts, and before somebody is told what is being waited for.
_RETRY_SECONDS = 0.2
_SILENT_SECONDS = 2.0
# What either side of HTTP/2 begins with (RFC 9113, 3.4 and 6.5): a frame of
# settings, here without any. Its type follows the three bytes of its length.
_SETTINGS = b"\x04"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + _SETTINGS + bytes(5)


def wait_for_tasks(
  specification: ClusterSpecification,
  timeout: float = 60.0,
  report: Callable[[str], None] = logging.warning,
) -> None:
  """Waits until a server of gRPC answers at the address of every worker and ps.

  TensorFlow itself would wait without an end and without a word.

  Args:
    specification: of the cluster, as the coordinator sees it.
    timeout: how long to wait, in seconds.
    report: called with one line, once, if the wait is long enough to wonder.

  Raises:
    UserError: if some do not answer until then.
  """
  missing = {
    address: f"{task_type} {index} at {address}"
    for task_type in ("ps", "worker")
    for index, address in enumerate(specification.as_dict()[task_type])
  }
  began = time.monotonic()
  told = False
  while True:
    # All at once: each may take its time.
    with concurrent.futures.ThreadPoolExecutor(len(missing)) as pool:
      serve = dict(zip(missing, pool.map(_serves, missing), strict=True))
    missing = {a: task for a, task in missing.items() if not serve[a]}
    waited = time.monotonic() - began
    if not missing:
      return
    if waited >= timeout:
      raise UserError(
        f"no answer from {', '.join(missing.values())}: start lc-asgd-serve "
        "for each, with the same cluster in TF_CONFIG, and see that this "
        "machine can reach its port"
      )
    if not told and waited >= _SILENT_SECONDS:
      report(f"waiting for {', '.join(missing.values())}")
      told = True
    time.sleep(_RETRY_SECONDS)


def _serves(address: str) -> bool:
  """Returns whether what listens there speaks HTTP/2, as gRPC does."""
  host, port = address.rsplit(":", maxsplit=1)
  try:
    with socket.create_connection(
      (host.strip("[]"), int(port)), _SILENT_SECONDS
    ) as connection:
      connection.sendall(_PREFACE)
      return connection.makefile("rb").read(4)[3:] == _SETTINGS
  except (OSError, UnicodeError):  # The latter for names that cannot be.
    return False


def connect(
  specification: ClusterSpecification,
  timeout: float = 60.0,
  report: Callable[[str], None] = logging.warning,
) -> tf.distribute.ParameterServerStrategy:
  """Connects this process, the coordinator, to the tasks of a cluster.

  Beside what `tf.distribute.ParameterServerStrategy` does, idle threads of all
  tasks sleep at once. By default they look for work a while, on cores that the
  other processes of the machine could use: with small models, a sixth of the
  throughput. Of a cluster on this machine, no call goes through a proxy.

  Args:
    specification: of the cluster, as the coordinator sees it.
    timeout: how long to wait until every worker and ps serves, in seconds.
    report: as of `wait_for_tasks`.

  Raises:
    UserError: if this process is another task, or some tasks do not serve
      until then.
  """
  if specification.task_type != "chief":
    raise UserError(
      f"this process is {specification.task_type} {specification.task_index}, "
      "and only the chief connects to the cluster: start lc-asgd-serve here"
    )
  wait_for_tasks(specification, timeout, report)
  if specification.is_local:
    os.environ.update(resources.LOOPBACK)
  import tensorflow as tf
  from tensorflow.python.eager import context

  # The tasks get their options from the coordinator's context, and TensorFlow
  # has no other way to set this one.
  own = context.context()
  if own._config is None:
    own._config = session_options()
  return tf.distribute.ParameterServerStrategy(specification.cluster_resolver())
