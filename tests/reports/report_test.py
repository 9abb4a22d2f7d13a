import pathlib
import re
from unittest import mock

from absl.testing import absltest, parameterized

from lc_asgd_tf import errors, reports
from lc_asgd_tf.reports import figures
from tests.reports import runs


class WriteTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    # Nobody looks at them, and large ones take most of the time.
    self.enter_context(mock.patch.object(figures, "_DPI", 20))
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def _write(self, records, **arguments):
    """Returns the Markdown; checks that it is in the file, with its images."""
    folder = self.folder / "new" / "report"
    text = reports.write(records, folder, **arguments)
    self.assertEqual((folder / "report.md").read_text("utf-8"), text)
    links = re.findall(r"!\[.+\]\((.+)\)", text)
    self.assertLen(set(links), len(links))
    self.assertCountEqual(
      [path.name for path in folder.iterdir()], [*links, "report.md"]
    )
    for link in links:
      self.assertEqual((folder / link).read_bytes()[1:4], b"PNG")
    self.links = links
    return text

  def _headings(self, text):
    return [line for line in text.splitlines() if line.startswith("#")]

  def test_one_setting_one_learning_rate(self):
    text = self._write(
      [*runs.seeds([0.03, 0.05]), runs.run("asgd"), runs.sequential(0.02)]
    )
    self.assertEqual(
      self._headings(text),
      [
        "# Rules of asynchronous SGD compared",
        "## digits, mlp, heterogeneous delays",
      ],
    )
    name = "digits-mlp-heterogeneous-sgd-m0.0-b16-e3-inherited.png"
    self.assertEqual(
      self.links, [f"{kind}-{name}" for kind in ("error", "loss", "staleness")]
    )
    self.assertIn("| lc_asgd |  | **4.00 ± 1.41** |", text)
    # 2 percent of the sequential run and 5 points.
    self.assertIn("at most 7 percent", text)
    self.assertIn("| lc_asgd |  | 15 |", text)
    self.assertIn("| asgd | -1.00 |", text)
    # Each table stands after its caption and an empty line.
    self.assertLen(re.findall(r"\n\n\*\*.+\n\n\| workers \|", text), 3)

  def test_a_target_that_is_given(self):
    text = self._write([runs.run(), runs.sequential()], target_error=0.2)
    self.assertIn("at most 20 percent", text)
    self.assertIn("| lc_asgd |  | 10 |", text)

  def test_without_sequential_runs_there_are_no_times(self):
    self.assertNotIn("Virtual time", self._write([runs.run()]))
    self.assertIn("Virtual time", self._write([runs.run()], target_error=0.2))

  def test_inherited_and_tuned(self):
    records = [
      runs.sequential(0.02, learning_rate=0.1),
      runs.sequential(0.03, learning_rate=0.2),
      runs.run(test_error=0.5, learning_rate=0.1),
      runs.run(test_error=0.25, learning_rate=0.2),
    ]
    text = self._write(records)
    self.assertEqual(
      self._headings(text)[2:],
      [
        "### Learning rate of the sequential run",
        "### Learning rate of each rule's own",
      ],
    )
    inherited, tuned = text.split("### ")[1:]
    self.assertIn("| lc_asgd |  | **50.00** |", inherited)
    self.assertIn("| lc_asgd |  | **25.00** |", tuned)
    self.assertIn("| lc_asgd |  | 0.2 |", tuned)
    self.assertNotIn("Learning rates", inherited)
    # The target is the same: that of the inherited learning rate.
    self.assertEqual(text.count("at most 7 percent"), 2)

  def test_settings_with_the_same_title(self):
    text = self._write([runs.run(), runs.run(batch_size=32)])
    for size in (16, 32):
      self.assertIn(
        f"\n## digits, mlp, heterogeneous delays, batch size {size}, ", text
      )

  def test_all_cells_together(self):
    records = [
      *runs.seeds([0.25, 0.5], learning_rate=0.1),
      *runs.seeds([0.375, 0.75], "asgd", learning_rate=0.1),
      *runs.seeds([0.25, 0.5], learning_rate=0.1, batch_size=32),
      *runs.seeds([0.125, 0.125], "asgd", learning_rate=0.1, batch_size=32),
      runs.sequential(),
    ]
    text = self._write(records)
    self.assertEqual(self._headings(text)[-1], "## All cells together")
    self.assertIn("| asgd | 2 | 1 | 1 | 4 | ", text)
    self.assertNotIn("| sequential | 2 ", text)

  def test_one_cell_is_not_put_together(self):
    records = [*runs.seeds([0.25, 0.5]), *runs.seeds([0.375, 0.75], "asgd")]
    self.assertNotIn("All cells", self._write(records))

  def test_judged_predictions(self):
    record = runs.run(step_mae=1.5, step_mae_persistence=2.5)
    record["history"][2]["predicted_loss"] = 0.75
    text = self._write([record])
    self.assertIn("| lc_asgd | 1.5 / 2.5 |", text)
    self.assertTrue(any(link.startswith("prediction-") for link in self.links))

  def test_other_rules_have_plots_of_their_own(self):
    self._write([runs.run(), runs.run("dana"), runs.run("lc_asgd_holt")])
    kinds = [link.partition("-")[0] for link in self.links]
    self.assertEqual(
      kinds, ["error", "loss", "error_others", "loss_others", "staleness"]
    )

  def test_nothing_but_other_rules(self):
    self._write([runs.run("lc_asgd_holt")])
    kinds = [link.partition("-")[0] for link in self.links]
    self.assertEqual(kinds, ["error", "loss"])

  def test_a_run_that_failed_at_once(self):
    lost = [{"loss": None, "pushes": 10, "virtual_time": None}]
    text = self._write([runs.run(test_error=0.9, failed=True, history=lost)])
    self.assertIn("| lc_asgd | **90.00** (1) |", text)

  def test_no_records(self):
    with self.assertRaisesRegex(errors.UserError, "no results"):
      reports.write([], self.folder)

  def test_a_directory_that_cannot_be(self):
    (self.folder / "new").write_text("a file")
    with self.assertRaisesRegex(errors.UserError, "cannot write a report to"):
      reports.write([runs.run()], self.folder / "new")


if __name__ == "__main__":
  absltest.main()
