"""Tables on real clusters: every row sees every push that reads it."""

import numpy as np
from absl.testing import absltest, parameterized

from tests.parameter_server import cluster_case, row_scenarios, scenarios

_STEPS = scenarios.STEPS
_WORKERS = 3


class ManyWorkersTest(cluster_case.ClusterTestCase):
  MODULE = row_scenarios.__name__
  NUM_WORKERS = _WORKERS
  NUM_PS = 2
  SCENARIOS = ("counts", "state", "narrow", "errors")

  def test_no_push_is_lost(self):
    result = self.results["counts"]
    # Without a late push, none of this would have been a test.
    self.assertGreater(result["staleness_max"], 0)
    moved = {row: w for row, w in enumerate(result["weights"]) if any(w)}
    self.assertEqual(moved.pop(row_scenarios.ROW), [-2.0 * _STEPS] * 2)
    self.assertSameElements(moved, _own_rows())
    each = np.sum(list(moved.values()), axis=0)
    self.assertEqual(each.tolist(), [-_STEPS] * 2)
    self.assertEqual(result["iterations"], _STEPS)
    self.assertEqual(result["model_iterations"], _STEPS)

  def test_state_is_kept_for_the_rows_that_are_read(self):
    result = self.results["state"]
    # The gradient is 2.
    self.assertAlmostEqual(
      result["second_moments"][row_scenarios.ROW][0],
      4 * (1 - 0.95**_STEPS),
      places=4,
    )
    for name in ("second_moments", "velocity"):
      rows = [row for row, value in enumerate(result[name]) if any(value)]
      self.assertEqual(rows, [row_scenarios.ROW, *_own_rows()], name)

  def test_checkpoints_bring_everything_back(self):
    result = self.results["state"]
    self.assertTrue(result["moved"])
    self.assertTrue(all(result["restored"]))

  def test_rows_of_16_bits_train_beside_a_frozen_table(self):
    result = self.results["narrow"]
    self.assertEqual(result["rows"], [row_scenarios.ROW, *_own_rows()])
    self.assertTrue(result["frozen"])

  @parameterized.parameters(
    ("read twice", "UserError: The table sparse_embedding.* is read twice"),
    ("regularized", "UserError: The table .* is read as a whole"),
    (
      "lora",
      "UserError: Layer 'sparse_embedding.*' is a SparseEmbedding whose",
    ),
    ("dana", "UserError: LookAhead cannot update single rows"),
    ("clipped", "UserError: SGD, as it is configured, cannot"),
  )
  def test_what_needs_more_is_refused_in_one_line(self, name, message):
    error = self.results["errors"][name]
    self.assertRegex(error, message)
    self.assertNotIn("\n", error)


class OneWorkerTest(cluster_case.ClusterTestCase):
  MODULE = row_scenarios.__name__
  SCENARIOS = ("sequential", "mixed", "out_of_range")

  def test_equals_sequential_training(self):
    differences = self.results["sequential"]
    self.assertLen(differences, 3)
    for difference in differences:
      self.assertLess(difference, 2e-6)

  def test_mixed_precision_and_negative_ids(self):
    self.assertLess(self.results["mixed"], 1e-6)

  def test_ids_beyond_the_table_are_an_error_of_their_own_training(self):
    results = self.results["out_of_range"]
    for name in ("beyond", "beyond 32 bits"):
      self.assertIn("is not in [0, 40)", results[name])
      self.assertEqual(results[f"pushes after {name}"], [2])


def _own_rows():
  return [row_scenarios.OWN_ROW + worker for worker in range(_WORKERS)]


if __name__ == "__main__":
  absltest.main()
