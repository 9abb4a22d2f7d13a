"""What belongs to the log is not in the user's terminal."""

import pathlib
import subprocess
import sys
import tempfile

from absl.testing import absltest

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PROGRAM = """
import os, sys, warnings
sys.path.insert(0, sys.argv[1])
from trainers import terminal
noise = terminal.Noise()

class Executor:
  def __del__(self):
    raise ConnectionError("its task is gone")

os.write(2, b"written by C++\\n")
warnings.warn("a warning")
noise.keep_in("log")
Executor()
print("for the user of \\udcff", file=sys.stderr)
"""


class NoiseTest(absltest.TestCase):
  def test_goes_into_the_log(self):
    directory = self.enter_context(tempfile.TemporaryDirectory())
    ended = subprocess.run(
      [sys.executable, "-c", _PROGRAM, str(_ROOT)],
      cwd=directory,
      capture_output=True,
      text=True,
      check=True,
    )
    # With a path that is no text, as Python's own.
    self.assertEqual(ended.stderr, "for the user of \\udcff\n")
    log = pathlib.Path(directory, "log").read_text()
    for noise in ("written by C++", "a warning", "its task is gone"):
      self.assertIn(noise, log)
    self.assertIn("Executor.__del__", log)


if __name__ == "__main__":
  absltest.main()
