import os
import signal
import socket
import subprocess
import sys

from absl.testing import absltest, parameterized

from lc_asgd_tf.cluster import ports
from tests.cluster import malformed

SERVE = (sys.executable, "-m", "trainers.serve")


def _config(address="127.0.0.1:2221", task_type="worker"):
  return malformed.config(
    {"worker": [address]}, task={"type": task_type, "index": 0}
  )


def _serve(config, *arguments):
  environ = {**os.environ, "TF_CONFIG": config}
  return subprocess.run(
    [*SERVE, *arguments], capture_output=True, text=True, env=environ
  )


class BadInputTest(parameterized.TestCase):
  def assert_one_line(self, ended, message):
    self.assertEqual(ended.returncode, 2, ended.stderr)
    self.assertLen(ended.stderr.splitlines(), 1, ended.stderr)
    self.assertIn(message, ended.stderr)
    self.assertEmpty(ended.stdout)

  @parameterized.named_parameters(*malformed.MALFORMED)
  def test_malformed_tf_config(self, config, message):
    self.assert_one_line(_serve(config), message)

  def test_chief(self):
    self.assert_one_line(_serve(_config(task_type="chief")), "lc-asgd-train")

  def test_port_in_use(self):
    with socket.create_server(("127.0.0.1", 0)) as server:
      port = server.getsockname()[1]
      self.assert_one_line(
        _serve(_config(f"127.0.0.1:{port}")), f"port {port} is in use"
      )

  def test_unknown_flag(self):
    self.assert_one_line(_serve(_config(), "--prot=2222"), "'prot'")

  def test_bad_flag_value(self):
    self.assert_one_line(_serve(_config(), "--verbosity=low"), "verbosity")

  def test_argument(self):
    self.assert_one_line(_serve(_config(), "worker"), "'worker'")


class ServeTest(parameterized.TestCase):
  @parameterized.parameters(signal.SIGTERM, signal.SIGINT)
  def test_serves_until_a_signal(self, number):
    address = f"127.0.0.1:{ports.free_ports(1)[0]}"
    with subprocess.Popen(
      [sys.executable, "-X", "importtime", *SERVE[1:]],
      # Not the coordinator's lifeline: its end must not end a task that was
      # started by hand.
      stdin=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
      env={**os.environ, "TF_CONFIG": _config(address)},
    ) as process:
      try:
        printed = []
        for line in process.stderr:
          printed.append(line)
          if "serves at" in line:
            break
        self.assertIn(f"worker 0 serves at grpc://{address}", printed[-1])
        host, port = address.split(":")
        socket.create_connection((host, int(port)), timeout=5).close()
        process.send_signal(number)
        self.assertEqual(process.wait(timeout=2), 0)
      finally:
        process.kill()
    # Half of the start-up time, if it came in.
    self.assertNotIn("keras.src", "".join(printed))

  def test_help_needs_no_tensorflow(self):
    ended = subprocess.run(
      [sys.executable, "-X", "importtime", *SERVE[1:], "--help"],
      capture_output=True,
      text=True,
    )
    self.assertEqual(ended.returncode, 0)
    self.assertIn("TF_CONFIG", ended.stdout)
    self.assertIn("no authentication", ended.stdout)
    self.assertNotIn("tensorflow", ended.stderr)


if __name__ == "__main__":
  absltest.main()
