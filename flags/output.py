"""Flags of what a program leaves behind."""

import dataclasses

from absl import flags


@dataclasses.dataclass(frozen=True)
class OutputOptions:
  """What the flags of this group say.

  Attributes:
    output_dir: where everything goes; None for a new directory.
    resume: whether to continue what `output_dir` holds.
    tensorboard: whether to write summaries for TensorBoard.
  """

  output_dir: str | None
  resume: bool
  tensorboard: bool


def define() -> None:
  """Registers the flags of this group."""
  flags.DEFINE_string(
    "output_dir",
    None,
    "Directory for the model, the history, checkpoints and logs; by default a "
    "new one below lc_asgd_runs.",
  )
  flags.DEFINE_bool(
    "resume", False, "Continue the run in --output_dir from its checkpoint."
  )
  flags.DEFINE_bool(
    "tensorboard", False, "Write summaries for TensorBoard to --output_dir."
  )


def read() -> OutputOptions:
  """Returns the parsed flags of this group."""
  values = flags.FLAGS
  return OutputOptions(
    output_dir=values.output_dir,
    resume=values.resume,
    tensorboard=values.tensorboard,
  )
