import contextlib
import fcntl
import pathlib
import resource
from concurrent import futures

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

  @parameterized.parameters(
    (b"", b"", b""),
    (b"a", b"", b"a\n"),
    (b"a\nb", b"a\n", b"a\nb\n"),
    (b"a\nb\n", b"a\nb\n", b"a\nb\n"),
  )
  def test_mends_the_last_line(self, content, dropped, ended):
    for is_whole, expected in ((False, dropped), (True, ended)):
      self.path.write_bytes(content)
      asked = []

      def answer(line, is_whole=is_whole, asked=asked):
        asked.append(line)
        return is_whole

      files.mend_last_line(self.path, answer)
      self.assertEqual(self.path.read_bytes(), expected)
      self.assertEqual(asked, [content[-1:]] if dropped != content else [])

  def test_without_room_leaves_what_others_have_added(self):
    self.path.write_bytes(b"one\n")

    def add(path):
      with _files_of_at_most(10):
        files.append(path, b"three\n")

    with futures.ThreadPoolExecutor() as pool:
      with open(self.path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        added = pool.submit(add, self.path)
        with self.assertRaises(futures.TimeoutError):
          added.result(timeout=0.5)
        # After the other one has opened the file.
        file.write(b"two\nan")
      with self.assertRaisesRegex(OSError, "too large"):
        added.result()
    self.assertEqual(self.path.read_bytes(), b"one\ntwo\nan")

  @parameterized.parameters(
    (lambda path: files.append(path, b"two\n"), b"one\ntwo\n"),
    (lambda path: files.mend_last_line(path, lambda line: False), b"one\n"),
  )
  def test_waits_for_who_is_adding(self, change, expected):
    with futures.ThreadPoolExecutor() as pool:
      with open(self.path, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(b"on")
        file.flush()
        changed = pool.submit(change, self.path)
        with self.assertRaises(futures.TimeoutError):
          changed.result(timeout=0.5)
        file.write(b"e\n")
      changed.result()
    self.assertEqual(self.path.read_bytes(), expected)


if __name__ == "__main__":
  absltest.main()
