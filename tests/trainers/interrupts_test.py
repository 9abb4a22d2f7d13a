"""Tests for Ctrl-C at a moment in which Python drops it."""

import signal
import sys
from unittest import mock

from absl.testing import absltest

from trainers import interrupts


class _Finalized:
  """Is interrupted when it goes."""

  def __del__(self):
    signal.raise_signal(signal.SIGINT)


class InterruptsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.interrupts = interrupts.Interrupts()
    self.addCleanup(signal.signal, signal.SIGINT, signal.default_int_handler)
    self.interrupts.listen()

  def test_raises_at_once(self):
    self.interrupts.check()
    with self.assertRaises(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)

  def test_raises_again_what_a_finalizer_has_dropped(self):
    with mock.patch.object(sys, "unraisablehook") as dropped:
      finalized = _Finalized()
      del finalized
    self.assertIs(dropped.call_args.args[0].exc_type, KeyboardInterrupt)
    with self.assertRaises(KeyboardInterrupt):
      self.interrupts.check()

  def test_in_a_shells_background_there_are_none(self):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    self.interrupts.listen()
    signal.raise_signal(signal.SIGINT)
    self.interrupts.check()


if __name__ == "__main__":
  absltest.main()
