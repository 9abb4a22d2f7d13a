"""Tests for which cells a comparison consists of."""

import dataclasses
import os
from unittest import mock

from absl.testing import absltest, parameterized

from flags import comparison as comparison_flags
from lc_asgd_tf import comparison, compensation, errors
from lc_asgd_tf.comparison import grid, rules

_BASE = comparison.Cell(
  dataset="digits",
  model="mlp",
  rule="sequential",
  num_workers=1,
  delays="none",
  inner_optimizer="sgd",
  learning_rate=0.0,
  momentum=0.0,
  batch_size=16,
  epochs=2,
  seed=0,
)


class GridTest(parameterized.TestCase):
  def test_all_combinations_and_one_sequential_run_for_all(self):
    cells = comparison.Grid(
      _BASE,
      rules=("asgd", "lc_asgd"),
      num_workers=(1, 4, 8),
      delays=("constant", "homogeneous"),
      learning_rates=(0.1, 0.2),
      seeds=range(3),
    ).cells()
    sequential = [cell for cell in cells if cell.num_workers == 1]
    # Learning rates x seeds.
    self.assertLen(sequential, 2 * 3)
    self.assertEqual({cell.rule for cell in sequential}, {"sequential"})
    self.assertEqual({cell.delays for cell in sequential}, {"none"})
    self.assertLen(cells, 2 * 3 + 2 * 2 * 2 * 2 * 3)
    self.assertLen(set(cells), len(cells))

  def test_cells_share_a_program_unless_it_differs(self):
    cells = [
      dataclasses.replace(_BASE, **{field.name: value})
      for field in dataclasses.fields(comparison.Cell)
      for value in ("one", "other")
    ]
    together = {
      frozenset(
        name
        for cell in group
        for name, value in dataclasses.asdict(cell).items()
        if value in ("one", "other")
      )
      for group in grid.programs(cells)
    }
    varying = frozenset({"learning_rate", "seed", "delays", "epochs"})
    others = {field.name for field in dataclasses.fields(comparison.Cell)}
    expected = {frozenset({name}) for name in others - varying} | {varying}
    self.assertEqual(together, expected)


class RulesTest(parameterized.TestCase):
  def test_groups_are_spelled_out(self):
    expanded = comparison.expand_rules(["lc_asgd", "all", "lc_asgd_r0"])
    self.assertEqual(expanded[0], "lc_asgd")
    self.assertEqual(expanded[-1], "lc_asgd_r0")
    self.assertCountEqual(expanded, [*comparison.RULES, "lc_asgd_r0"])
    self.assertLen(
      comparison.expand_rules(["controls"]), len(comparison.CONTROLS)
    )

  def test_says_which_rule_there_is_not(self):
    with self.assertRaisesRegex(errors.UserError, "no rule 'lcasgd'.*lc_asgd"):
      comparison.expand_rules(["lcasgd"])

  def test_the_sequential_run_is_no_rule_to_ask_for(self):
    """It would be one of many workers, and be taken for the baseline."""
    with self.assertRaisesRegex(errors.UserError, "no rule 'sequential'"):
      comparison.expand_rules(["sequential"])

  def test_rules_of_the_users_own(self):
    rule = comparison.Rule(lambda momentum: compensation.Uncompensated())
    with self.assertRaisesRegex(ValueError, "already"):
      comparison.register("asgd", rule)
    self.addCleanup(rules._USERS.clear)
    comparison.register("mine", rule)
    self.assertEqual(comparison.expand_rules(["mine"]), ["mine"])
    self.assertIs(rules.known()["mine"], rule)

  def test_refuses_what_is_no_rule(self):
    with self.assertRaisesRegex(errors.UserError, "'mine' must be a .*Rule"):
      comparison.register("mine", compensation.Uncompensated)

  @parameterized.named_parameters(
    (name, rule)
    for name, rule in (comparison.RULES | comparison.CONTROLS).items()
  )
  def test_makes_a_rule(self, rule):
    self.assertIsInstance(rule.compensation(0.9), compensation.Compensation)

  def test_unknown_delays(self):
    with self.assertRaisesRegex(errors.UserError, "'slow' are neither"):
      comparison.make_delays("slow", seed=0)

  def test_a_trace_in_the_home_directory(self):
    home = self.create_tempdir()
    home.create_file("t.csv", content="worker,seconds\n0,1\n")
    with mock.patch.dict(os.environ, HOME=home.full_path):
      delays = comparison.make_delays("~/t.csv", seed=0)
    self.assertEqual(delays.path, os.path.join(home.full_path, "t.csv"))

  def test_flags_name_what_there_is(self):
    self.assertEqual(comparison_flags.PRESETS, tuple(comparison.PRESETS))
    self.assertEqual(comparison_flags.VARIED, tuple(comparison.DEFAULTS))
    for preset in comparison.PRESETS.values():
      self.assertContainsSubset(preset, comparison.DEFAULTS)
      comparison.expand_rules(preset.get("rules", ()))


if __name__ == "__main__":
  absltest.main()
