import pathlib
import subprocess
import sys

from absl.testing import absltest, parameterized

from lc_asgd_tf.errors import UserError
from tests.cluster import processes
from trainers import run_directory

RUN = (
  processes.WITHOUT_KERAS
  + """
import sys, time
from trainers import run_directory
directory = run_directory.RunDirectory(sys.argv[1])
directory.history_csv.touch()
print("began", flush=True)
time.sleep(600)
"""
)


class KeepEpochsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path)
    rows = [f"{epoch},{epoch / 8}\n" for epoch in range(3)]
    (self.path / "history.csv").write_text("epoch,loss\n" + "".join(rows))
    self.directory = run_directory.RunDirectory(
      str(self.path), name="run", resume=True
    )

  def _epochs(self):
    return [int(row["epoch"]) for row in self.directory.history()]

  @parameterized.parameters(2, 3)
  def test_drops_the_epoch_that_is_repeated(self, checkpoint):
    self.directory.keep_epochs(checkpoint)
    self.assertEqual(self._epochs(), list(range(checkpoint)))

  def test_drops_more_where_a_checkpoint_is_damaged(self):
    with self.assertRaisesRegex(UserError, "put the missing ones back"):
      self.directory.keep_epochs(0, damaged=1)
    self.directory.keep_epochs(1, damaged=1)
    self.assertEqual(self._epochs(), [0])

  @parameterized.parameters(0, 1)
  def test_refuses_to_lose_more(self, checkpoint):
    with self.assertRaisesRegex(UserError, "put the missing ones back"):
      self.directory.keep_epochs(checkpoint)
    self.assertEqual(self._epochs(), [0, 1, 2])

  @parameterized.parameters("0,0.0\n1,0.125\n", "0,0\n2,0\n", "1,0\n0,0\n2,0\n")
  def test_refuses_to_go_on_without_some(self, rows):
    text = f"epoch,loss\n{rows}"
    self.directory.history_csv.write_text(text)
    with self.assertRaisesRegex(UserError, "each of the 3 epochs"):
      self.directory.keep_epochs(3)
    self.assertEqual(self.directory.history_csv.read_text(), text)
    self.directory.history_csv.unlink()
    with self.assertRaisesRegex(UserError, "each of the 3 epochs"):
      self.directory.keep_epochs(3)
    self.directory.keep_epochs(0)

  def test_syncs_what_there_is(self):
    self.directory.sync_history()
    self.assertEqual(self._epochs(), [0, 1, 2])

  def test_leaves_out_a_line_that_a_crash_has_cut(self):
    text = self.directory.history_csv.read_text()
    for cut in ("3", "3,", "3,0.", "3,0.37"):
      self.directory.history_csv.write_text(text + cut)
      self.assertEqual(self._epochs(), [0, 1, 2])
    self.directory.keep_epochs(3)
    self.assertEqual(self.directory.history_csv.read_text().count("\n"), 4)
    self.assertEqual(self.directory.write_history_json()["epoch"], [0, 1, 2])

  @parameterized.parameters(
    b"1", b"1,", b"x,1", b"1,x", b"1,2,3", b"1.5,2", b"\xff\xfe,1"
  )
  def test_names_a_line_that_is_damaged(self, line):
    with open(self.directory.history_csv, "ab") as file:
      file.write(line + b"\n")
    with self.assertRaisesRegex(UserError, "history.csv, line 5, is damaged"):
      self.directory.keep_epochs(2)

  def test_names_a_file_that_is_no_table(self):
    with open(self.directory.history_csv, "a") as file:
      file.write("3," + 200_000 * "1" + "\n")
    with self.assertRaisesRegex(UserError, "history.csv is damaged"):
      self.directory.keep_epochs(2)


class NewTest(parameterized.TestCase):
  @parameterized.parameters(
    "model.keras", "history.json", "trace.csv", "history.csv", "checkpoints"
  )
  def test_overwrites_nothing(self, name):
    path = pathlib.Path(self.create_tempdir().full_path)
    (path / name).write_text("the user's own")
    with self.assertRaisesRegex(UserError, "another --output_dir"):
      run_directory.RunDirectory(str(path), name="run", resume=False)

  def test_takes_what_a_run_that_failed_early_has_left(self):
    path = pathlib.Path(self.create_tempdir().full_path)
    (path / "settings.json").write_text("{}")
    run_directory.RunDirectory(str(path), name="run", resume=False)


class SettingsTest(parameterized.TestCase):
  def test_settings_of_a_run_that_failed_early_are_replaced(self):
    path = pathlib.Path(self.create_tempdir().full_path)
    (path / "settings.json").write_text('{"model": "resnet8"}')
    run_directory.RunDirectory(str(path)).keep_settings(
      {"model": "mlp", "seed": 0}
    )
    self.assertIn('"mlp"', (path / "settings.json").read_text())

  @parameterized.parameters('{"mine": 1}', "[]", "")
  def test_what_is_somebody_elses_stays(self, text):
    path = pathlib.Path(self.create_tempdir().full_path)
    (path / "settings.json").write_text(text)
    directory = run_directory.RunDirectory(str(path))
    with self.assertRaisesRegex(UserError, "settings.json exists, and would"):
      directory.keep_settings({"model": "mlp"})
    self.assertEqual((path / "settings.json").read_text(), text)

  def test_damaged_settings_are_named(self):
    path = pathlib.Path(self.create_tempdir().full_path)
    (path / "checkpoints").mkdir()
    (path / "settings.json").write_text("")
    directory = run_directory.RunDirectory(str(path), resume=True)
    with self.assertRaisesRegex(UserError, "settings.json is damaged"):
      directory.keep_settings({"model": "mlp"})


class InUseTest(absltest.TestCase):
  def test_belongs_to_one_process_until_that_ends(self):
    path = self.create_tempdir().full_path
    with subprocess.Popen(
      [sys.executable, "-c", RUN, path], stdout=subprocess.PIPE
    ) as other:
      try:
        self.assertEqual(other.stdout.readline(), b"began\n")
        with self.assertRaisesRegex(UserError, "has not ended yet.*another"):
          run_directory.RunDirectory(path, resume=True)
      finally:
        other.kill()
    run_directory.RunDirectory(path, resume=True)

  def test_belongs_to_one_object(self):
    path = self.create_tempdir().full_path
    directory = run_directory.RunDirectory(path)
    with self.assertRaisesRegex(UserError, "has not ended yet"):
      run_directory.RunDirectory(path)
    del directory
    run_directory.RunDirectory(path)


if __name__ == "__main__":
  absltest.main()
