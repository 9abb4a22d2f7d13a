"""Flags of a comparison."""

import dataclasses
import os
from collections.abc import Mapping

from absl import flags

from flags import folder, momentum, target_error

PRESETS = ("digits", "smoke", "controls")
DELAYS = ("constant", "homogeneous", "heterogeneous", "heavy_tailed")
BATCH_NORMS = ("async", "plain", "precise")


@dataclasses.dataclass(frozen=True)
class ComparisonOptions:
  """What the flags of this group say.

  Attributes:
    preset: one of `PRESETS`.
    given: what the user has set, by the names of the flags, in place of what
      the preset sets.
    data_dir: where TFDS keeps data sets; None for its default.
    judge: whether to judge the loss predictor by true changes of the loss.
    imports: modules of the user's.
    processes: how many runs go on side by side; 0 for one per core.
    output_dir: where results and report go.
    target_error: whose virtual time is asked for; None for a good one.
  """

  preset: str
  given: Mapping[str, object]
  data_dir: str | None
  judge: bool
  imports: tuple[str, ...]
  processes: int
  output_dir: str
  target_error: float | None


# What a preset may set; each of them is a flag whose default is the preset's.
VARIED = (
  "dataset",
  "model",
  "rules",
  "num_workers",
  "delays",
  "learning_rates",
  "inner_optimizer",
  "momentum",
  "batch_size",
  "epochs",
  "seeds",
  "batch_norm",
  "train_split",
  "test_split",
)


def define() -> None:
  """Registers the flags of this group."""
  flags.DEFINE_enum(
    "preset",
    "digits",
    PRESETS,
    "What to compare, where no other flag says so. digits: all rules, 1 to 128 "
    "workers, minutes; smoke: three rules, under two minutes; controls: what "
    "LC-ASGD is made of.",
  )
  flags.DEFINE_string(
    "dataset",
    None,
    "digits, breast_cancer, python_topics, or any TFDS image-classification "
    "data set with images of one size.",
  )
  flags.DEFINE_string(
    "model",
    None,
    "mlp, deep_mlp, convolutional, characters, resnet8, resnet20, the path of "
    "a .keras file whose model returns logits, and from whose weights every "
    "seed starts, or one of --import's.",
  )
  flags.DEFINE_list(
    "rules", None, "all, controls, and names of rules: see --help's list."
  )
  flags.DEFINE_list(
    "num_workers",
    None,
    "How many workers to simulate; 1 is the sequential run.",
  )
  flags.DEFINE_list(
    "delays",
    None,
    f"Any of {', '.join(DELAYS)}, and paths of recorded traces (.csv). A run "
    "with the same flags counts as done, whatever traces, models, --data_dir "
    "and --import's modules hold by now.",
  )
  flags.DEFINE_list("learning_rates", None, "Of the inner optimizer.")
  flags.DEFINE_enum(
    "inner_optimizer",
    None,
    ("sgd", "adam", "adamw"),
    "What applies the compensated gradients.",
  )
  flags.DEFINE_float("momentum", None, "Of SGD.")
  momentum.check("momentum")
  flags.DEFINE_integer(
    "batch_size", None, "Examples per worker and step.", lower_bound=1
  )
  flags.DEFINE_integer(
    "epochs",
    None,
    "Passes over the training data, of all workers together.",
    lower_bound=1,
  )
  flags.DEFINE_integer(
    "seeds",
    None,
    "How often to repeat each run, from seed 0 on.",
    lower_bound=1,
  )
  flags.DEFINE_enum(
    "batch_norm",
    None,
    BATCH_NORMS,
    "Moving statistics on the server (async), of each worker (plain), or "
    "measured anew at the weights that are evaluated (precise).",
  )
  flags.DEFINE_string("train_split", None, "TFDS split, such as train[:10000].")
  flags.DEFINE_string("test_split", None, "TFDS split, such as test[:5000].")
  flags.DEFINE_string(
    "data_dir",
    None,
    "Directory of prepared TFDS data sets; by default that of TFDS.",
  )
  folder.check("data_dir")
  flags.DEFINE_bool(
    "judge",
    False,
    "Compare predicted with true changes of the loss, which costs a forward "
    "pass per step.",
  )
  flags.DEFINE_list(
    "import",
    [],
    "Python modules to import, which register rules and models of yours.",
  )
  flags.DEFINE_integer(
    "processes",
    None,
    "Runs side by side; by default one per core.",
    lower_bound=1,
  )
  flags.DEFINE_string(
    "output_dir",
    "lc_asgd_comparison",
    "Directory for results and report. A comparison that is run again there "
    "does only what is missing.",
  )
  folder.check("output_dir")
  target_error.define()


def read() -> ComparisonOptions:
  """Returns the parsed flags of this group."""
  values = flags.FLAGS
  given = {
    name: values[name].value
    for name in VARIED
    if values[name].value is not None
  }
  return ComparisonOptions(
    preset=values.preset,
    given=given,
    data_dir=values.data_dir,
    judge=values.judge,
    imports=tuple(values["import"].value),
    processes=values.processes or 0,
    output_dir=os.path.expanduser(values.output_dir),
    target_error=values.target_error,
  )
