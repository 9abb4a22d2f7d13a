import math

import scipy.stats
from absl.testing import absltest, parameterized

from lc_asgd_tf.reports import pooling, statistics
from tests.reports import runs

_SETTINGS = (
  {"num_workers": 8},
  {"learning_rate": 0.3},
  {"delays": "constant"},
  {"epochs": 9},
)


def _cell(differences, **fields):
  """Returns runs of both rules whose errors differ by so many percent."""
  return [
    *runs.seeds([0.2 + d / 100 for d in differences], "lc_asgd", **fields),
    *runs.seeds([0.2] * len(differences), "asgd", **fields),
  ]


class PooledTest(parameterized.TestCase):
  def _pooled(self, *cells):
    return pooling.pooled(sum(cells, []), "lc_asgd", "asgd")

  def test_one_cell_is_its_own_test(self):
    records = _cell([-1, -2, -4])
    alone = statistics.paired(records, "lc_asgd", "asgd")
    pooled = self._pooled(records)
    self.assertEqual(pooled[:4], (1, 1, 0, 3))
    self.assertAlmostEqual(pooled.p_value, alone.p_value)

  @parameterized.parameters(*_SETTINGS)
  def test_equal_cells_add_up(self, **fields):
    once = self._pooled(_cell([-1, -2, -4]))
    twice = self._pooled(_cell([-1, -2, -4]), _cell([-1, -2, -4], **fields))
    self.assertEqual(twice[:4], (2, 2, 0, 6))
    # The sum of two deviates has a standard deviation of the root of 2.
    deviate = math.sqrt(2) * scipy.stats.norm.isf(once.p_value / 2)
    self.assertAlmostEqual(twice.p_value, 2 * scipy.stats.norm.sf(deviate))

  def test_by_scipy(self):
    cells = [
      _cell([-1, -2, -4, 1]),
      _cell([3, -1], num_workers=8),
      _cell([-0.1, -0.2, 0.05], learning_rate=0.3),
    ]
    pooled = self._pooled(*cells)
    self.assertEqual(pooled[:4], (3, 2, 1, 9))
    one_sided = []
    for differences in ([-1, -2, -4, 1], [3, -1], [-0.1, -0.2, 0.05]):
      test = scipy.stats.ttest_1samp(differences, 0, alternative="less")
      one_sided.append(test.pvalue)
    expected = scipy.stats.combine_pvalues(
      one_sided, method="stouffer", weights=[2, math.sqrt(2), math.sqrt(3)]
    )
    self.assertLess(expected.pvalue, 0.5)
    self.assertAlmostEqual(pooled.p_value, 2 * expected.pvalue)

  def test_cells_of_opposite_signs_cancel(self):
    pooled = self._pooled(_cell([1, 2, 4]), _cell([-1, -2, -4], num_workers=8))
    self.assertEqual(pooled[:4], (2, 1, 1, 6))
    self.assertAlmostEqual(pooled.p_value, 1.0)

  def test_scale_does_not_matter(self):
    small = self._pooled(_cell([1, 2, 3]), _cell([-1, -1, 3], num_workers=8))
    large = self._pooled(_cell([1, 2, 3]), _cell([-10, -10, 30], num_workers=8))
    self.assertAlmostEqual(small.p_value, large.p_value)

  def test_differences_that_are_all_the_same_say_nothing(self):
    alone = self._pooled(_cell([0, 0, 0]))
    self.assertEqual(alone, (1, 0, 0, 3, 1.0))
    more = self._pooled(_cell([-1, -2, -4]), _cell([0, 0, 0], num_workers=8))
    self.assertEqual(more[:4], (2, 1, 0, 6))
    self.assertGreater(more.p_value, self._pooled(_cell([-1, -2, -4])).p_value)

  def test_differences_that_hardly_vary_do_not_drown_the_rest(self):
    sure = _cell([-1, -1 - 1e-6, -1, -1 + 1e-6] * 10)
    pooled = self._pooled(sure, _cell([1, 3, 2], num_workers=8))
    self.assertGreaterEqual(pooled.p_value, 0.0)
    self.assertLess(pooled.p_value, 0.001)

  def test_one_pair_is_no_cell(self):
    self.assertIsNone(self._pooled(_cell([-1])))
    pooled = self._pooled(_cell([-1, -2, -4]), _cell([-1], num_workers=8))
    self.assertEqual(pooled[:4], (1, 1, 0, 3))

  @parameterized.parameters({"batch_norm": "precise"}, {"test_split": "half"})
  def test_a_run_that_is_judged_twice_counts_once(self, **fields):
    once = self._pooled(_cell([-1, -2, -4]))
    twice = self._pooled(_cell([-1, -2, -4]), _cell([-1, -2, -4], **fields))
    self.assertEqual(twice[:4], once[:4])
    self.assertAlmostEqual(twice.p_value, once.p_value)
    # By the mean of its errors.
    mixed = self._pooled(_cell([0, -2, -4]), _cell([-2, -2, -4], **fields))
    self.assertAlmostEqual(mixed.p_value, once.p_value)

  @parameterized.parameters({"batch_norm": "precise"}, {"test_split": "half"})
  def test_judgements_of_one_rule_alone_do_not_count(self, **fields):
    once = self._pooled(_cell([-1, -2, -4]))
    more = runs.seeds([0.9, 0.9, 0.9], "lc_asgd", **fields)
    more.append(runs.run("asgd", seed=7, **fields))
    self.assertEqual(self._pooled(_cell([-1, -2, -4]), more), once)
    self.assertEqual(self._pooled(more, _cell([-1, -2, -4])), once)
    # Nor where some seeds were judged again.
    some = _cell([-1], **fields)
    self.assertEqual(self._pooled(_cell([-1, -2, -4]), some), once)

  def test_of_a_run_that_is_there_twice_the_last_counts(self):
    once = self._pooled(_cell([-1, -2, -4]))
    twice = self._pooled(_cell([9, 9, 9]), _cell([-1, -2, -4]))
    self.assertEqual(twice, once)

  def test_differences_that_cancel_are_no_difference(self):
    # In floating point their mean is 1e-15.
    pooled = self._pooled(_cell([0.1, 0.2, -0.3]))
    self.assertEqual(pooled[:4], (1, 0, 0, 3))

  def test_nothing_in_common(self):
    records = [
      *runs.seeds([0.1, 0.2], "lc_asgd", 4),
      *runs.seeds([0.1, 0.2], "asgd", 8),
    ]
    self.assertIsNone(self._pooled(records))
    self.assertIsNone(self._pooled([]))


if __name__ == "__main__":
  absltest.main()
