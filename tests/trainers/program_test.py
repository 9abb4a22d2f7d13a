import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from tests.cluster import processes

PROGRAM = f'''"""Counts sheep."""
import sys
from absl import app, flags
from trainers import program
sys.modules["keras"] = None
_SHEEP = flags.DEFINE_integer("sheep", 1, "How many.", lower_bound=0)
def main(argv):
  {processes.WITHOUT_KERAS.strip()}
  from lc_asgd_tf.errors import UserError
  {{body}}
def run():
  program.run(main)
if __name__ == "__main__":
  run()
'''


class ProgramTest(parameterized.TestCase):
  def run_program(
    self,
    body,
    *arguments,
    installed=False,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  ):
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    (folder / "sheep.py").write_text(PROGRAM.format(body=body))
    script = folder / "sheep.py"
    if installed:
      script = folder / "count-sheep"
      script.write_text("import sheep\nsheep.run()\n")
    search = f"import sys; sys.path[:0] = {[str(folder), *sys.path]}\n"
    start = f"sys.argv = {[str(script), *arguments]}\n"
    start += f"import runpy; runpy.run_path({str(script)!r}, None, '__main__')"
    return subprocess.run(
      [sys.executable, "-c", search + start],
      stdout=stdout,
      stderr=stderr,
      text=True,
    )

  @parameterized.parameters(
    ("pass", 0),
    ("return 3", 3),
    ("sys.exit(4)", 4),
  )
  def test_status(self, body, status):
    ended = self.run_program(body)
    self.assertEqual(ended.returncode, status)
    self.assertEmpty(ended.stderr)

  @parameterized.parameters(
    ("raise UserError('no sheep here')", "no sheep here\n"),
    ("raise UserError('no sheep\\n  here')", "no sheep here\n"),
    ("raise app.UsageError('no sheep here')", "no sheep here\n"),
  )
  def test_bad_input(self, body, line):
    ended = self.run_program(body)
    self.assertEqual(ended.returncode, 2)
    self.assertEqual(ended.stderr, line)

  @parameterized.parameters(
    ("--sheep=-1", "--sheep=-1"),
    ("--sheep=x", "--sheep=x"),
    ("--ship=2", "'ship'"),
    ("--flagfile=/nowhere", "/nowhere"),
  )
  def test_bad_flag(self, flag, message):
    ended = self.run_program("pass", flag)
    self.assertEqual(ended.returncode, 2)
    self.assertLen(ended.stderr.splitlines(), 1)
    self.assertIn(message, ended.stderr)

  def test_interrupt(self):
    ended = self.run_program("raise KeyboardInterrupt")
    self.assertEqual(ended.returncode, 130)
    self.assertEqual(ended.stderr, "interrupted\n")

  @parameterized.parameters("print(9 * 'sheep')", "print('sheep', flush=True)")
  def test_nobody_reads(self, body):
    read, write = os.pipe()
    os.close(read)
    ended = self.run_program(body, stdout=write)
    os.close(write)
    self.assertEqual(ended.returncode, 141)
    self.assertEqual(ended.stderr, "nobody reads standard output any more\n")

  def test_nobody_reads_anything(self):
    read, write = os.pipe()
    os.close(read)
    ended = self.run_program("print('sheep')", stdout=write, stderr=write)
    os.close(write)
    self.assertEqual(ended.returncode, 141)

  def test_prints_what_ascii_has(self):
    with mock.patch.dict(os.environ, PYTHONIOENCODING="ascii"):
      ended = self.run_program("print('1 \u00b1 2 sheep')")
    self.assertEqual(ended.returncode, 0, ended.stderr)
    self.assertEqual(ended.stdout, "1 ? 2 sheep\n")

  @parameterized.parameters(
    "import os; os.write(os.open('/dev/full', os.O_WRONLY), b'sheep')",
    "raise RuntimeError('Save: No space left on device')",
  )
  def test_full_disk(self, body):
    ended = self.run_program(body)
    self.assertEqual(ended.returncode, 2)
    self.assertRegex(
      ended.stderr, r"^out of disk space, .*No space left on device.*\n$"
    )

  @parameterized.parameters("ValueError", "RuntimeError")
  def test_a_defect_shows_its_traceback(self, error):
    ended = self.run_program(f"raise {error}('black sheep')")
    self.assertEqual(ended.returncode, 1)
    self.assertIn("Traceback", ended.stderr)
    self.assertIn(f"{error}: black sheep", ended.stderr)

  @parameterized.parameters(False, True)
  def test_help_shows_the_modules_docstring_and_flags(self, installed):
    ended = self.run_program("pass", "--help", installed=installed)
    self.assertEqual(ended.returncode, 0)
    self.assertStartsWith(ended.stdout, "Counts sheep.")
    self.assertIn("--sheep", ended.stdout)


if __name__ == "__main__":
  absltest.main()
