import math

from absl.testing import absltest, parameterized

from lc_asgd_tf.reports import captions, table
from tests.reports import runs


class ErrorTableTest(absltest.TestCase):
  def test_by_hand(self):
    records = [
      *runs.seeds([0.02, 0.03, 0.04], "lc_asgd", 4),
      *runs.seeds([0.02, 0.03, 0.10], "asgd", 4),
      *runs.seeds([0.25], "asgd", 16),
      *runs.seeds([0.01, 0.02], "sequential"),
    ]
    records[4]["failed"] = records[5]["failed"] = True
    # Squares of -3, -2 and 5 are 38; sqrt(38 / 2) = 4.36.
    self.assertEqual(
      table.error_table(records),
      "| workers | 1 | 4 | 16 |\n"
      "| --- | ---: | ---: | ---: |\n"
      "| sequential | 1.50 ± 0.71 |  |  |\n"
      "| asgd |  | 5.00 ± 4.36 (2) | **25.00** |\n"
      "| lc_asgd |  | **3.00 ± 1.00** |  |",
    )

  def test_equals_are_both_best(self):
    records = [runs.run(), runs.run("asgd"), runs.run("dana", test_error=0.05)]
    self.assertEqual(table.error_table(records).count("**4.00**"), 2)

  def test_the_sequential_run_is_no_rival(self):
    records = [runs.sequential(0.02), runs.run("asgd", 1, 0.03)]
    self.assertIn("| asgd | **3.00** |", table.error_table(records))

  def test_a_failed_run_in_a_best_entry(self):
    self.assertIn(
      "| lc_asgd | **4.00** (1) |", table.error_table([runs.run(failed=True)])
    )


class OtherTablesTest(parameterized.TestCase):
  def test_learning_rates(self):
    records = [
      runs.run(learning_rate=0.05),
      runs.run(num_workers=8, learning_rate=1.0),
      runs.sequential(),
    ]
    self.assertEqual(
      table.learning_rate_table(records),
      "| workers | 1 | 4 | 8 |\n"
      "| --- | ---: | ---: | ---: |\n"
      "| sequential | 0.1 |  |  |\n"
      "| lc_asgd |  | 0.05 | 1 |",
    )

  def test_times(self):
    records = [
      *runs.seeds([0.04, 0.15]),
      *runs.seeds([0.04, 0.04], "asgd"),
      *runs.seeds([0.02], "sequential"),
    ]
    records[3]["history"][2]["virtual_time"] = 14.5
    self.assertEqual(
      table.time_table(records, 0.1),
      "| workers | 1 | 4 |\n"
      "| --- | ---: | ---: |\n"
      "| sequential | 30 |  |\n"
      "| asgd |  | 14.8 |\n"
      "| lc_asgd |  | - |",
    )

  def test_times_that_may_be_shorter(self):
    self.assertIn("| lc_asgd | ≤ 5 |", table.time_table([runs.run()], 0.5))

  def test_times_of_a_trace_have_no_sequential_run(self):
    records = [runs.run(delays="t.csv"), runs.sequential(delays="t.csv")]
    self.assertEqual(
      table.time_table(records, 0.1),
      "| workers | 4 |\n| --- | ---: |\n| lc_asgd | 15 |",
    )

  @parameterized.parameters(
    (9.876, "9.88"), (98.76, "98.8"), (99.99, "100"), (98765.4, "98765")
  )
  def test_long_and_short_times(self, time, expected):
    history = [{"virtual_time": 0.1, "test_error": 0.5}, {"virtual_time": time}]
    one = runs.run(history=history)
    self.assertIn(f"| lc_asgd | {expected} |", table.time_table([one], 0.1))

  def test_predictions(self):
    records = runs.seeds([0.04, 0.04]) + [runs.run("asgd")]
    for record, error in zip(records[:2], (0.01, 0.03), strict=True):
      record["change_mae"] = error
      record["change_mae_persistence"] = 2 * error
    self.assertEqual(
      table.prediction_table(records, "change"),
      "| workers | 4 |\n| --- | ---: |\n| lc_asgd | 0.02 / 0.04 |",
    )
    self.assertIsNone(table.prediction_table(records, "step"))


class PairedTableTest(absltest.TestCase):
  def test_by_hand(self):
    records = [
      *runs.seeds([0.03, 0.05, 0.07]),
      *runs.seeds([0.02, 0.03, 0.04], "asgd", learning_rate=0.3),
      *runs.seeds([0.06], "ssgd"),
      *runs.seeds([0.25], num_workers=8),
      *runs.seeds([0.125], "asgd", num_workers=8),
      *runs.seeds([0.125], "asgd", num_workers=16),
      *runs.seeds([0.01], "sequential"),
    ]
    # See `statistics_test`: 1 / sqrt(3) = 0.58 and 1 - sqrt(12 / 14) = 0.074.
    self.assertEqual(
      table.paired_table(records),
      "| workers | 4 | 8 |\n"
      "| --- | ---: | ---: |\n"
      "| ssgd | -3.00 |  |\n"
      "| asgd | +2.00 ± 0.58, p = 0.074 | +12.50 |",
    )
    self.assertEqual(
      table.paired_table(records, "asgd", ["ssgd", "lc_asgd"]),
      "| workers | 4 | 8 |\n"
      "| --- | ---: | ---: |\n"
      "| ssgd | -4.00 |  |\n"
      "| lc_asgd | -2.00 ± 0.58, p = 0.074 | -12.50 |",
    )

  def test_a_small_p_value_and_no_minus_zero(self):
    errors = [0.01 * seed for seed in range(10)]
    records = [
      *runs.seeds(errors),
      *runs.seeds(
        [error + 1e-5 + 1e-6 * math.cos(error) for error in errors], "asgd"
      ),
    ]
    self.assertIn(
      "| asgd | +0.00 ± 0.00, p < 0.001 |", table.paired_table(records)
    )

  def test_nothing_to_compare_with(self):
    self.assertIsNone(table.paired_table([runs.run(), runs.sequential()]))
    self.assertIsNone(table.paired_table([runs.run("asgd")]))
    self.assertIsNone(table.paired_table([runs.run(), runs.run("asgd", 8)]))


class CaptionsTest(parameterized.TestCase):
  _START = (
    "digits, mlp, heterogeneous delays, batch size 16, 3 epochs, inner "
    "optimizer sgd, momentum 0, async batch normalization; "
  )

  @parameterized.parameters(
    ("inherited", (0.1,), "learning rate 0.1; 2 seeds."),
    (
      "inherited",
      (0.1, 0.2),
      "learning rate 0.1, of 0.1, 0.2 the sequential run's best; 2 seeds.",
    ),
    (
      "tuned",
      (0.1, 0.2),
      "each rule and number of workers at that learning rate, of those among "
      "0.1, 0.2 that it was run with, at which its mean test error is lowest; "
      "2 seeds.",
    ),
  )
  def test_common(self, choice, grid, end):
    self.assertEqual(
      captions.common(runs.seeds([0.1, 0.2]), choice, grid), self._START + end
    )

  @parameterized.parameters(([0.1], " 1 seed."), ([0.1] * 3, " 1 to 3 seeds."))
  def test_seeds(self, errors, end):
    records = runs.seeds(errors) + [runs.run("asgd")]
    self.assertEndsWith(captions.common(records, "inherited", [0.1]), end)

  def test_the_target_is_said_in_percent(self):
    self.assertIn("at most 7.25 percent", captions.times("", 0.0725))

  @parameterized.parameters(
    (False, "where a step takes 1 on average over the workers;"),
    (True, "in seconds;"),
  )
  def test_the_unit_of_time(self, in_seconds, expected):
    self.assertIn(expected, captions.times("", 0.1, in_seconds))


if __name__ == "__main__":
  absltest.main()
