"""Every benchmark starts with the flags that it has by default."""

from absl.testing import absltest, parameterized

from tests.trainers import preloaded


class ProgramsTest(parameterized.TestCase):
  @parameterized.parameters(
    "embedding",
    "real_and_simulated",
    "scale",
    "simulation",
    "throughput",
    "update",
  )
  def test_default_flags_are_accepted(self, name):
    # Nothing is measured: what it is for, and no error.
    ended = preloaded.run(f"benchmarks.{name}", "--help")
    self.assertIn(f"python -m benchmarks.{name}", ended.stdout)
    self.assertNotIn("Traceback", ended.stderr)


if __name__ == "__main__":
  absltest.main()
