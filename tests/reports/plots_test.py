import pathlib

import numpy as np
from absl.testing import absltest, parameterized

from lc_asgd_tf import files
from lc_asgd_tf.reports import figures, plots, styles
from tests.reports import runs


def _lines(axes):
  """Returns the points of each line by its label."""
  return {
    line.get_label(): [list(map(float, data)) for data in line.get_data()]
    for line in axes.lines
  }


def _legend(figure):
  return [text.get_text() for text in figure.legends[0].get_texts()]


class ErrorByWorkersTest(parameterized.TestCase):
  def test_lines_and_bands(self):
    figure = plots.error_by_workers(
      [
        *runs.seeds([0.25], num_workers=16),
        *runs.seeds([0.0625, 0.1875], num_workers=4),
        *runs.seeds([0.125, 0.375], "sequential"),
        *runs.seeds([0.5], "asgd", 16),
      ],
      "A title",
    )
    (axes,) = figure.axes
    lines = _lines(axes)
    self.assertEqual(_legend(figure), ["sequential", "asgd", "lc_asgd"])
    self.assertEqual(lines["sequential"][1], [25.0, 25.0])
    self.assertEqual(lines["asgd"], [[16.0], [50.0]])
    self.assertEqual(lines["lc_asgd"], [[4.0, 16.0], [12.5, 25.0]])
    self.assertEqual(axes.get_title(), "A title")
    self.assertEqual(
      [text.get_text() for text in axes.get_xticklabels()], ["4", "16"]
    )
    band = axes.collections[-1].get_paths()[0].get_extents()
    # 6.25 sqrt(2) either side of 12.5, and nothing around one run of 25.
    self.assertAlmostEqual(band.y0, 12.5 - 6.25 * 2**0.5)
    self.assertAlmostEqual(band.y1, 25.0)

  def test_deviations_of_one_number_of_workers_are_bars(self):
    figure = plots.error_by_workers(runs.seeds([0.0625, 0.1875]))
    (axes,) = figure.axes
    (bars,) = axes.containers
    (line,) = bars.lines[2][0].get_segments()
    np.testing.assert_allclose(
      line[:, 1], 12.5 + 6.25 * 2**0.5 * np.array([-1, 1])
    )

  def test_a_title_is_no_formula(self):
    path = pathlib.Path(self.create_tempdir().full_path, "x.png")
    figures.save(
      plots.error_by_workers([runs.run()], "/data/$user}$/net.keras"), path
    )
    self.assertGreater(path.stat().st_size, 0)

  @parameterized.parameters(
    ((0.1, 0.2), "linear"), ((0.01, 0.9), "log"), ((0.0, 0.9), "linear")
  )
  def test_scale(self, errors, scale):
    figure = plots.error_by_workers(
      [runs.run(test_error=errors[0]), runs.run("asgd", test_error=errors[1])]
    )
    self.assertEqual(figure.axes[0].get_yscale(), scale)

  def test_a_band_below_zero_leaves_the_scale_alone(self):
    figure = plots.error_by_workers(
      [*runs.seeds([0.01]), *runs.seeds([0.001, 0.9], "asgd")]
    )
    low, high = figure.axes[0].get_ylim()
    self.assertAlmostEqual(low, 0.7)
    self.assertBetween(high, 45.0, 1000.0)

  def test_nothing(self):
    self.assertIsNone(plots.error_by_workers([]))


class TrainingLossTest(parameterized.TestCase):
  def test_means_over_seeds_of_the_most_workers(self):
    other = [
      {"loss": loss, "pushes": 10, "virtual_time": time}
      for loss, time in ((4.0, 7.0), (2.0, 14.0), (1.5, 21.0))
    ]
    figure = plots.training_loss(
      [
        runs.run(num_workers=16),
        runs.run(num_workers=16, seed=1, history=other),
        runs.run("asgd", 4),
        runs.run("ssgd", 16),
        runs.sequential(),
      ],
      title="A title",
    )
    by_pushes, by_time = map(_lines, figure.axes)
    self.assertEqual(_legend(figure), ["sequential", "ssgd", "lc_asgd"])
    loss = [3.0, 1.5, 1.0]
    self.assertEqual(by_pushes["lc_asgd"], [[10.0, 20.0, 30.0], loss])
    self.assertEqual(by_time["lc_asgd"], [[6.0, 12.0, 18.0], loss])
    self.assertEqual(by_time["sequential"], [[10, 20, 30], [2, 1, 0.5]])
    self.assertEqual(figure.get_suptitle(), "A title, 16 workers")

  def test_another_number_of_workers(self):
    records = [runs.run(num_workers=16), runs.run("asgd", 4)]
    self.assertEqual(_legend(plots.training_loss(records, 4)), ["asgd"])

  def test_a_line_ends_where_that_of_a_seed_does(self):
    stopped = runs.run(seed=1)["history"][:2]
    stopped[1]["loss"] = None
    figure = plots.training_loss(
      [runs.run(), runs.run(seed=1, history=stopped)]
    )
    self.assertEqual(_legend(figure), ["lc_asgd (ends early)"])
    self.assertEqual(
      _lines(figure.axes[0]), {"lc_asgd (ends early)": [[10.0], [2.0]]}
    )

  @parameterized.parameters(1, 2)
  def test_what_ends_early_can_be_seen(self, epochs):
    history = runs.run()["history"][:epochs]
    early = runs.run("asgd", history=history)
    figure = plots.training_loss([runs.run(), early])
    marked = {
      line.get_label(): line.get_markevery() for line in figure.axes[0].lines
    }
    self.assertEqual(marked, {"asgd (ends early)": [-1], "lc_asgd": []})
    for line in figure.axes[0].lines:
      self.assertNotIn(line.get_marker(), ("", "None"))

  def test_a_single_epoch_can_be_seen(self):
    of_one = {"epochs": 1, "history": runs.run()["history"][:1]}
    figure = plots.training_loss(
      [runs.run(**of_one), runs.sequential(**of_one)]
    )
    for line in figure.axes[0].lines:
      self.assertEqual(line.get_markevery(), [-1])
      self.assertNotIn(line.get_marker(), ("", "None"))

  def test_a_rule_without_any_loss_is_named(self):
    lost = [{"loss": None, "pushes": 10, "virtual_time": 1.0}]
    figure = plots.training_loss([runs.run(), runs.run("asgd", history=lost)])
    self.assertEqual(_legend(figure), ["asgd (ends early)", "lc_asgd"])

  @parameterized.parameters(
    (
      "heterogeneous",
      "virtual time (a step takes 1 on average over the workers)",
    ),
    ("trace.csv", "virtual time in seconds"),
  )
  def test_the_unit_of_time(self, delays, expected):
    figure = plots.training_loss([runs.run(delays=delays)])
    self.assertEqual(figure.axes[1].get_xlabel(), expected)

  def test_without_virtual_time(self):
    history = [{"loss": 2.0, "pushes": 10}] * 3
    figure = plots.training_loss([runs.run(history=history)])
    self.assertEqual(_lines(figure.axes[0])["lc_asgd"][1], [2.0] * 3)
    self.assertEqual(_lines(figure.axes[1])["lc_asgd"], [[], []])
    figures.save(figure, pathlib.Path(self.create_tempdir().full_path, "x.png"))

  def test_nothing(self):
    self.assertIsNone(plots.training_loss([]))
    self.assertIsNone(plots.training_loss([runs.run(history=[])]))


class PredictedLossTest(absltest.TestCase):
  def _predicting(self, **fields):
    record = runs.run(**fields)
    for entry, value in zip(record["history"][1:], (1.25, 0.75), strict=True):
      entry["predicted_loss"] = value
    return record

  def test_draws_the_lowest_seed_of_the_most_workers(self):
    figure = plots.predicted_loss(
      [
        self._predicting(num_workers=4, seed=0),
        self._predicting(num_workers=16, seed=2),
        self._predicting(num_workers=16, seed=1),
        self._predicting(rule="lc_asgd_holt", num_workers=32, seed=0),
        runs.run(num_workers=64, seed=0),
      ],
      title="A title",
    )
    (axes,) = figure.axes
    observed, predicted = _lines(axes).values()
    self.assertEqual(axes.get_title(), "A title\nlc_asgd, 16 workers, seed 1")
    self.assertEqual(observed, [[10, 20, 30], [2, 1, 0.5]])
    np.testing.assert_array_equal(
      predicted, [[10, 20, 30], [np.nan, 1.25, 0.75]]
    )

  def test_nothing(self):
    self.assertIsNone(plots.predicted_loss([runs.run()]))


class StalenessTest(absltest.TestCase):
  def _bars(self, axes):
    return {
      bar.get_x() + bar.get_width() / 2: bar.get_height()
      for bar in axes.patches
      if bar.get_height()
    }

  def test_adds_seeds_up(self):
    figure = plots.staleness(
      [
        runs.run(staleness={"3": 3, "1": 1}),
        runs.run(seed=1, staleness={"3": 4}),
        runs.run(num_workers=2, staleness={"1": 5}),
        runs.run("asgd", num_workers=2, staleness={"7": 5}),
        runs.sequential(),
      ],
      title="A title",
    )
    two, four = figure.axes
    self.assertEqual(self._bars(two), {1.0: 100.0})
    self.assertEqual(self._bars(four), {1.0: 12.5, 3.0: 87.5})
    # (1 + 7 * 3) / 8 = 2.75.
    self.assertEqual(four.get_title(), "4 workers: mean 2.8, largest 3")
    self.assertEqual(figure.get_suptitle(), "A title, lc_asgd")

  def test_a_long_tail_is_cut_off(self):
    counts = {"0": 500, "9": 495, "10": 4, "9000": 1}
    figure = plots.staleness([runs.run(staleness=counts)])
    bars = self._bars(figure.axes[0])
    np.testing.assert_allclose(sorted(bars), [0, 9])
    self.assertIn("largest 9000", figure.axes[0].get_title())

  def test_many_values_share_bars(self):
    counts = {str(value): 1 for value in range(100)}
    figure = plots.staleness([runs.run(staleness=counts)])
    bars = self._bars(figure.axes[0])
    # 100 values in at most 40 bars: three in each.
    self.assertLen(bars, 34)
    self.assertAlmostEqual(max(bars.values()), 3.0)
    self.assertAlmostEqual(sum(bars.values()), 100.0)

  def test_more_panels_than_a_row_has(self):
    figure = plots.staleness([runs.run(num_workers=2**i) for i in range(2, 7)])
    self.assertLen(figure.axes, 5)

  def test_nothing(self):
    self.assertIsNone(plots.staleness([runs.run("asgd")]))
    self.assertIsNone(plots.staleness([runs.run(staleness={})]))


class StyleTest(absltest.TestCase):
  def test_uses_the_styles_it_gets(self):
    by_rule = styles.styles(["a", "b", "c"])
    for draw in (plots.error_by_workers, plots.training_loss):
      figure = draw([runs.run("c")], styles=by_rule)
      line = figure.axes[0].lines[0]
      self.assertEqual(line.get_color(), by_rule["c"].color)
      self.assertNotEqual(line.get_color(), styles.styles("a")["a"].color)


class SaveTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def test_writes_a_png_and_nothing_else(self):
    path = self.folder / "m0.9.png"
    path.write_text("old")
    with open(path) as reader:
      figures.save(plots.error_by_workers([runs.run()]), path)
      self.assertEqual(reader.read(), "old")
    self.assertEqual(path.read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
    self.assertEqual(list(self.folder.iterdir()), [path])

  def test_a_file_is_whole_or_as_it_was(self):
    path = self.folder / "a.md"
    path.write_text("old")

    def fail(partial):
      pathlib.Path(partial).write_text("half")
      self.assertEqual(path.read_text(), "old")
      raise OSError("disk full")

    with self.assertRaisesRegex(OSError, "disk full"):
      files.write(path, fail)
    self.assertEqual(path.read_text(), "old")
    self.assertEqual(list(self.folder.iterdir()), [path])


if __name__ == "__main__":
  absltest.main()
