import contextlib
import socket
import threading

from absl.testing import absltest

from lc_asgd_tf.cluster import connection, ports, specification
from lc_asgd_tf.errors import UserError

# A frame of HTTP/2, without any settings.
_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


def _cluster(free_ports):
  """Returns one of a chief, a worker and a ps at these ports."""
  chief, worker, ps = (f"127.0.0.1:{port}" for port in free_ports)
  return specification.ClusterSpecification(
    chief=chief, workers=(worker,), ps=(ps,)
  )


class WaitForTasksTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.ports = ports.free_ports(3)
    self.cluster = _cluster(self.ports)
    self.stack = self.enter_context(contextlib.ExitStack())

  def _serve(self, port, greeting=_SETTINGS):
    """Lets something listen that says this to whoever comes."""
    server = socket.create_server(("127.0.0.1", port))

    def greet():
      with contextlib.suppress(OSError):  # Once the server is closed.
        while True:
          with server.accept()[0] as visitor:
            visitor.sendall(greeting)
            visitor.recv(1000)

    thread = threading.Thread(target=greet, daemon=True)
    thread.start()

    def end():
      server.shutdown(socket.SHUT_RDWR)
      server.close()
      thread.join()

    self.stack.callback(end)

  def test_returns_once_all_listen(self):
    _, worker, ps = self.ports
    self._serve(ps)
    late = threading.Timer(0.5, self._serve, (worker,))
    late.start()
    connection.wait_for_tasks(self.cluster, timeout=30.0)
    late.join()

  def test_names_those_that_do_not(self):
    _, worker, ps = self.ports
    self._serve(worker)
    with self.assertRaisesRegex(UserError, "^no answer from ps 0 at") as caught:
      connection.wait_for_tasks(self.cluster, timeout=0.0)
    self.assertIn(f"127.0.0.1:{ps}:", str(caught.exception))
    self.assertNotIn("worker 0", str(caught.exception))

  def test_another_programs_port_is_no_task(self):
    _, worker, ps = self.ports
    self._serve(ps)
    self._serve(worker, b"HTTP/1.0 400 Bad Request\r\n")
    with self.assertRaisesRegex(UserError, "^no answer from worker 0 at"):
      connection.wait_for_tasks(self.cluster, timeout=0.0)

  def test_a_name_that_cannot_be_does_not_answer(self):
    cluster = specification.ClusterSpecification(
      chief="127.0.0.1:1", workers=("a..b:1",), ps=("127.0.0.1:2",)
    )
    with self.assertRaisesRegex(UserError, "worker 0 at a..b:1"):
      connection.wait_for_tasks(cluster, timeout=0.0)

  def test_says_once_what_it_waits_for(self):
    lines = []
    with self.assertRaises(UserError):
      connection.wait_for_tasks(self.cluster, timeout=3.0, report=lines.append)
    self.assertLen(lines, 1)
    self.assertStartsWith(lines[0], "waiting for ps 0 at 127.0.0.1")


class ConnectTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.cluster = _cluster(ports.free_ports(3))

  def test_refuses_another_task_than_the_chief(self):
    with self.assertRaisesRegex(UserError, "^this process is worker 0, and"):
      connection.connect(self.cluster.for_task("worker", 0))

  def test_names_the_tasks_that_do_not_serve(self):
    with self.assertRaisesRegex(UserError, "^no answer from ps 0 at .*worker"):
      connection.connect(self.cluster, timeout=0.0)


if __name__ == "__main__":
  absltest.main()
