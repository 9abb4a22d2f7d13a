"""Ports on which the tasks of a cluster listen."""

import contextlib
import errno
import socket

from lc_asgd_tf.cluster.specification import port_of
from lc_asgd_tf.errors import UserError


def free_ports(count: int) -> list[int]:
  """Returns `count` different ports that nothing uses at the moment.

  The system hands them out, but nothing reserves them afterwards: use them
  soon, and expect that on a busy machine one may be taken in between.

  Raises:
    UserError: If the system has not got as many for this process.
  """
  with contextlib.ExitStack() as held:
    try:
      # All are held until the last is known, or the system may repeat one.
      sockets = [held.enter_context(_open()) for _ in range(count)]
      for each in sockets:
        _bind(each, 0)
    except OSError as error:
      remedy = ""
      if error.errno == errno.EMFILE:
        remedy = ": start fewer tasks, or raise the limit with ulimit -n"
      raise UserError(
        f"cannot find {count} free ports, {error.strerror}{remedy}"
      ) from None
    return [each.getsockname()[1] for each in sockets]


def check_port_free(address: str) -> None:
  """Checks that a server at `address` could open its port on this machine.

  Args:
    address: "host:port". The host plays no part: TensorFlow's server always
      listens on all of the machine's interfaces, hence so does this check.

  Raises:
    UserError: If the address is malformed, the port is in use, or this user
      may not open it.
  """
  port = port_of(address)
  with _open() as probe:
    # As servers do, so that connections of a server that has just ended do not
    # count. A socket that listens still does.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      _bind(probe, port)
    except OSError as error:
      if error.errno == errno.EADDRINUSE:
        raise UserError(
          f"port {port} is in use on this machine (address {address})"
        ) from None
      raise UserError(
        f"cannot open port {port} (address {address}): {error.strerror}"
      ) from None


def _open() -> socket.socket:
  """Returns a socket for both IP versions where the machine has both."""
  if not socket.has_dualstack_ipv6():
    return socket.socket(socket.AF_INET)
  opened = socket.socket(socket.AF_INET6)
  opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
  return opened


def _bind(opened: socket.socket, port: int) -> None:
  """Binds to `port` on all interfaces; 0 lets the system choose."""
  opened.bind(("", port))
