"""Tests for where checkpoints of the server may lie."""

from absl.testing import absltest, parameterized

from lc_asgd_tf import callbacks, errors


class DirectoryTest(parameterized.TestCase):
  @parameterized.parameters("run[1]", "run*", "run?/checkpoints", "a\\b")
  def test_refuses_what_tensorflow_takes_for_a_pattern(self, directory):
    with self.assertRaisesRegex(errors.UserError, "for patterns"):
      callbacks.ServerCheckpoint(None, directory)

  def test_takes_other_names(self):
    callbacks.ServerCheckpoint(None, "my run/lr=0.1, ü (2)~")


if __name__ == "__main__":
  absltest.main()
