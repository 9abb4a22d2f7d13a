"""lc-asgd-report as a user runs it."""

import json
import pathlib
import subprocess
import sys

from absl.testing import absltest, parameterized

from tests.reports import runs
from tests.trainers import preloaded

_PROGRAM = (sys.executable, "-m", "trainers.report")


def _report(*arguments):
  return subprocess.run(
    [*_PROGRAM, *arguments], capture_output=True, text=True, encoding="utf-8"
  )


def _preloaded(*arguments):
  return preloaded.run("trainers.report", *arguments)


class ReportTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.results = self.folder / "results.jsonl"

  def _write(self, *lines):
    self.results.write_text("".join(lines), encoding="utf-8")

  def _assert_one_line(self, ended, message):
    self.assertEqual(ended.returncode, 2, ended.stderr)
    self.assertLen(ended.stderr.splitlines(), 1, ended.stderr)
    self.assertIn(message, ended.stderr)
    self.assertEmpty(ended.stdout)

  @parameterized.parameters(False, True)
  def test_writes_and_prints_a_report(self, elsewhere):
    records = [runs.run(test_error=0.25), runs.sequential(0.125)]
    lines = [json.dumps(record) + "\n" for record in records]
    self._write(*lines, lines[0][:40])  # The last one is half written.
    if elsewhere:
      output = self.folder / "elsewhere"
      ended = _preloaded(
        f"--results={self.results}",
        f"--output_dir={output}",
        "--target_error=0.5",
      )
    else:
      output = self.folder
      ended = _report(f"--results={self.folder}")
    self.assertEqual(ended.returncode, 0, ended.stderr)
    self.assertEmpty(ended.stderr)
    text = (output / "report.md").read_text("utf-8")
    self.assertEqual(ended.stdout, text)
    self.assertIn("| lc_asgd |  | **25.00** |", text)
    target = "50" if elsewhere else "17.5"
    self.assertIn(f"at most {target} percent", text)
    self.assertNotEmpty(list(output.glob("error-*.png")))

  def test_a_malformed_line(self):
    line = json.dumps(runs.run()) + "\n"
    self._write(line, "{}\n", line)
    ended = _preloaded(f"--results={self.folder}")
    self._assert_one_line(ended, f"{self.results}, line 2,")

  def test_no_results(self):
    self._write("")
    self._assert_one_line(_preloaded(f"--results={self.folder}"), "no results")

  def test_records_of_something_else(self):
    record = runs.run(test_error=0.25)
    del record["history"]
    self._write(json.dumps(record) + "\n")
    self._assert_one_line(
      _preloaded(f"--results={self.results}"), "record 1 has no 'history'"
    )

  def test_a_missing_file(self):
    path = self.folder / "nowhere.jsonl"
    self._assert_one_line(_preloaded(f"--results={path}"), str(path))

  @parameterized.parameters(
    ((), "--results"),
    (("--results=x", "--target_error=1.5"), "--target_error"),
    (("--results=x", "--target_error=low"), "--target_error"),
    (("--results=",), "must not be empty"),
    (("--results=x", "--output_dir="), "must not be empty"),
    (("--results=x", "more"), "'more'"),
  )
  def test_bad_flags(self, arguments, message):
    self._assert_one_line(_preloaded(*arguments), message)

  def test_help(self):
    ended = _report("--help")
    self.assertEqual(ended.returncode, 0)
    for flag in ("--results", "--output_dir", "--target_error"):
      self.assertIn(flag, ended.stdout)


if __name__ == "__main__":
  absltest.main()
