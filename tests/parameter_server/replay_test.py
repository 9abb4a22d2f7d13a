"""Real workers that meet compute what one process does in the same order."""

import numpy as np
from absl.testing import absltest, parameterized

from tests.parameter_server import cluster_case, replay_scenarios, scenarios


class ReplayTest(cluster_case.ClusterTestCase):
  MODULE = replay_scenarios.__name__
  NUM_WORKERS = 3
  SCENARIOS = ("replayed",)

  @parameterized.parameters("asgd", "lc_asgd")
  def test_every_push_is_of_the_weights_that_its_worker_had_pulled(self, rule):
    result = self.results["replayed"][rule]
    staleness, replayed = result["staleness"]
    self.assertLen(staleness, scenarios.STEPS)
    self.assertEqual(staleness, replayed)
    # Without late pushes, none of this would have been a test.
    self.assertGreater(np.mean(staleness), 0.5)
    for name in ("losses", "weights"):
      real, replayed = result[name]
      np.testing.assert_allclose(real, replayed, atol=1e-4, err_msg=name)


if __name__ == "__main__":
  absltest.main()
