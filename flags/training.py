"""Flags of the training loop."""

import dataclasses

from absl import flags

# Those of `lc_asgd_tf.server`, which is not imported for a list of names.
PULL_DTYPES = ("float32", "bfloat16", "float16")
BATCH_NORMS = ("async", "precise")


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
  """What the flags of this group say.

  Attributes:
    epochs: passes over the data, of all workers together.
    steps_per_epoch: pushes per epoch; None for one pass over the data.
    steps_per_dispatch: steps per message to a worker; None for a good number.
    pull_dtype: the precision in which workers pull the weights.
    batch_norm: whose moving statistics evaluation reads: `async` for the
      server's, `precise` for statistics that are measured anew.
    seed: of the initial weights and of the workers' orders of the data.
  """

  epochs: int
  steps_per_epoch: int | None
  steps_per_dispatch: int | None
  pull_dtype: str
  batch_norm: str
  seed: int


def define() -> None:
  """Registers the flags of this group."""
  flags.DEFINE_integer(
    "epochs",
    15,
    "Passes over the training data, of all workers together.",
    lower_bound=1,
  )
  flags.DEFINE_integer(
    "steps_per_epoch",
    None,
    "Pushes per epoch; by default one pass over the training data.",
    lower_bound=1,
  )
  flags.DEFINE_integer(
    "steps_per_dispatch",
    None,
    "Steps that a worker does per message from the coordinator.",
    lower_bound=1,
  )
  flags.DEFINE_enum(
    "pull_dtype",
    "float32",
    PULL_DTYPES,
    "Precision in which workers pull the weights and compute with them: 16 "
    "bits halve the transfer and the server's snapshots.",
  )
  flags.DEFINE_enum(
    "batch_norm",
    "precise",
    BATCH_NORMS,
    "Batch normalization is evaluated, and saved, with statistics measured "
    "anew at the server's weights (precise), or with moving statistics that "
    "the server merged from those of the workers (async), which lag behind.",
  )
  flags.DEFINE_integer(
    "seed",
    0,
    "Of the initial weights and of each worker's order of the data.",
    lower_bound=0,
    upper_bound=2**31 - 1,
  )


def read() -> TrainingOptions:
  """Returns the parsed flags of this group."""
  values = flags.FLAGS
  return TrainingOptions(
    epochs=values.epochs,
    steps_per_epoch=values.steps_per_epoch,
    steps_per_dispatch=values.steps_per_dispatch,
    pull_dtype=values.pull_dtype,
    batch_norm=values.batch_norm,
    seed=values.seed,
  )
