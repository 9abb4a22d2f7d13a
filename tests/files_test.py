import contextlib
import pathlib
import resource

from absl.testing import absltest, parameterized

from lc_asgd_tf import files


@contextlib.contextmanager
def _files_of_at_most(size):
  """A disk with little room, as far as this process is concerned."""
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class AppendTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path, "lines.txt")

  @parameterized.parameters(False, True)
  def test_adds_to_the_end(self, durable):
    files.append(self.path, b"one\n", durable=durable)
    files.append(self.path, b"two\n", durable=durable)
    self.assertEqual(self.path.read_bytes(), b"one\ntwo\n")

  def test_leaves_no_half_where_there_is_no_room(self):
    files.append(self.path, b"one\n")
    with _files_of_at_most(6):
      with self.assertRaisesRegex(OSError, "too large"):
        files.append(self.path, b"two\n")
      self.assertEqual(self.path.read_bytes(), b"one\n")
    files.append(self.path, b"two\n")
    self.assertEqual(self.path.read_bytes(), b"one\ntwo\n")


if __name__ == "__main__":
  absltest.main()
