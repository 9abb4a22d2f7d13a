"""Flags of what a program leaves behind."""

import dataclasses

from absl import flags

from flags import folder


@dataclasses.dataclass(frozen=True)
class OutputOptions:
  """What the flags of this group say.

  Attributes:
    output_dir: where everything goes; None for a new directory.
    resume: whether to continue what `output_dir` holds.
    tensorboard: whether to write summaries for TensorBoard.
    record_trace: whether to record the delay of every push.
  """

  output_dir: str | None
  resume: bool
  tensorboard: bool
  record_trace: bool


def define() -> None:
  """Registers the flags of this group."""
  flags.DEFINE_string(
    "output_dir",
    None,
    "Directory for the model, the history, checkpoints and logs; by default a "
    "new one below lc_asgd_runs.",
  )
  folder.check("output_dir")
  flags.DEFINE_bool(
    "resume", False, "Continue the run in --output_dir from its checkpoint."
  )
  flags.DEFINE_bool(
    "tensorboard", False, "Write summaries for TensorBoard to --output_dir."
  )
  flags.DEFINE_bool(
    "record_trace",
    False,
    "Record the delay of every push in --output_dir, for "
    "lc_asgd_tf.delays.Trace.",
  )


def read() -> OutputOptions:
  """Returns the parsed flags of this group."""
  values = flags.FLAGS
  return OutputOptions(
    output_dir=values.output_dir,
    resume=values.resume,
    tensorboard=values.tensorboard,
    record_trace=values.record_trace,
  )
