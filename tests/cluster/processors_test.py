import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

from absl.testing import absltest, parameterized

from lc_asgd_tf.cluster import processors


class ShareTest(parameterized.TestCase):
  @parameterized.parameters(
    ((0, 1), 2, [(0,), (1,)]),
    ((0, 1, 2, 3), 2, [(0, 1), (2, 3)]),
    ((0, 4, 1, 5), 2, [(0, 4), (1, 5)]),
    ((3, 5, 7), 2, [(3,), (5, 7)]),
    ((0, 1), 1, [(0, 1)]),
    ((0, 1), 3, [(0, 1), (0, 1), (0, 1)]),
    ((), 2, [(), ()]),
  )
  def test_shares(self, usable, workers, expected):
    shares = [
      processors.share(usable, index, workers) for index in range(workers)
    ]
    self.assertEqual(shares, expected)


@unittest.skipUnless(
  hasattr(os, "sched_getaffinity"), "this system does not bind processes"
)
class BindTest(absltest.TestCase):
  def test_usable_are_those_of_this_process(self):
    self.assertSameElements(processors.usable(), os.sched_getaffinity(0))

  def test_what_shares_a_core_and_a_socket_is_side_by_side(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    # Two sockets of two cores, of two processors each, as Linux counts them.
    for processor in range(8):
      topology = pathlib.Path(folder, str(processor))
      topology.mkdir()
      socket, core = processor % 4 // 2, processor % 2
      (topology / "physical_package_id").write_text(f"{socket}\n")
      (topology / "core_id").write_text(f"{core}\n")
    with (
      mock.patch.object(processors, "_TOPOLOGY", folder + "/{}"),
      mock.patch.object(os, "sched_getaffinity", lambda pid: set(range(8))),
    ):
      self.assertEqual(processors.usable(), (0, 4, 1, 5, 2, 6, 3, 7))

  def test_binds_a_worker(self):
    usable = processors.usable()
    process = subprocess.Popen(
      [sys.executable, "-c", "input()"], stdin=subprocess.PIPE
    )
    try:
      processors.bind_worker(process.pid, 0, len(usable))
      self.assertEqual(os.sched_getaffinity(process.pid), {usable[0]})
      # There are fewer processors than workers.
      processors.bind_worker(process.pid, 0, len(usable) + 1)
      self.assertEqual(os.sched_getaffinity(process.pid), set(usable))
    finally:
      process.communicate()
    # There is nobody left to bind, and nothing to complain about.
    processors.bind_worker(process.pid, 0, 1)

  @mock.patch.object(processors, "usable", lambda: (100_000,))
  def test_leaves_a_worker_where_it_is_if_it_has_to(self):
    before = os.sched_getaffinity(0)
    processors.bind_worker(os.getpid(), 0, 1)
    self.assertEqual(os.sched_getaffinity(0), before)


if __name__ == "__main__":
  absltest.main()
