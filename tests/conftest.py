"""Settings for pytest; a test run as a program needs neither."""

import os
import signal

# Errors only. TensorFlow reads it when it is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from absl import flags

# absltest parses the command line, which is pytest's here.
flags.FLAGS.mark_as_parsed()

# A shell lets what runs in its background ignore Ctrl-C, and the tests' own
# processes would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
