import contextlib
import errno
import os
import socket
from unittest import mock

from absl.testing import absltest, parameterized

from lc_asgd_tf.cluster import ports
from lc_asgd_tf.errors import UserError


class FreePortsTest(absltest.TestCase):
  def test_differ_and_are_free(self):
    found = ports.free_ports(50)
    self.assertLen(set(found), 50)
    for port in found:
      ports.check_port_free(f"localhost:{port}")

  def test_none(self):
    self.assertEqual(ports.free_ports(0), [])


class CheckPortFreeTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("on_loopback", socket.AF_INET, "127.0.0.1"),
    ("on_all_interfaces", socket.AF_INET, ""),
    ("on_ipv6", socket.AF_INET6, "::1"),
  )
  def test_in_use(self, family, host):
    with contextlib.ExitStack() as stack:
      try:
        server = stack.enter_context(
          socket.create_server((host, 0), family=family)
        )
      except OSError:
        self.skipTest("this machine has no such interface")
      port = server.getsockname()[1]
      with self.assertRaisesRegex(UserError, f"port {port} is in use"):
        ports.check_port_free(f"localhost:{port}")
    ports.check_port_free(f"localhost:{port}")

  def test_a_server_that_has_just_ended_does_not_count(self):
    with socket.create_server(("127.0.0.1", 0)) as server:
      address = server.getsockname()
      with socket.create_connection(address) as client:
        connection, _ = server.accept()
        connection.close()  # First, so that this side is the one to linger.
        client.recv(1)
    ports.check_port_free(f"localhost:{address[1]}")

  def test_not_allowed(self):
    refusal = OSError(errno.EACCES, os.strerror(errno.EACCES))
    with mock.patch.object(ports, "_bind", side_effect=refusal):
      with self.assertRaisesRegex(UserError, "port 80 .*Permission denied"):
        ports.check_port_free("localhost:80")

  @parameterized.parameters("localhost", "localhost:0", "localhost:65536")
  def test_malformed(self, address):
    with self.assertRaises(UserError):
      ports.check_port_free(address)


if __name__ == "__main__":
  absltest.main()
