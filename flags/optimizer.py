"""Flags of the optimizer."""

import dataclasses

from absl import app, flags

from flags import finite, momentum

RULES = (
  "ssgd",
  "asgd",
  "staleness_aware",
  "gap_aware",
  "dana",
  "dc_asgd_c",
  "dc_asgd",
  "lc_asgd",
)
INNER_OPTIMIZERS = ("sgd", "adam", "adamw")
LOSS_PREDICTORS = ("lstm", "holt", "persistence")
HORIZONS = ("observed", "predicted")

# What has a meaning only where another flag, or the next, has one of these
# values. Dana's momentum is the workers', whatever applies their velocities.
_ONLY_WITH = {
  "lambda_0": {"optimizer": ("dc_asgd_c", "dc_asgd")},
  "loss_predictor": {"optimizer": ("lc_asgd",)},
  "horizon": {"optimizer": ("lc_asgd",)},
  "momentum": {"inner_optimizer": ("sgd",), "optimizer": ("dana",)},
  "nesterov": {"inner_optimizer": ("sgd",)},
}
# What a flag may be beside any other.
_OFF = {"momentum": 0.0, "nesterov": False}


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
  """What the flags of this group say.

  Attributes:
    optimizer: one of `RULES`.
    inner_optimizer: one of `INNER_OPTIMIZERS`.
    learning_rate: of the inner optimizer.
    momentum: of SGD.
    nesterov: of SGD.
    weight_decay: of the inner optimizer; None for its default.
    lambda_0: of DC-ASGD; None for the paper's.
    loss_predictor: one of `LOSS_PREDICTORS`.
    horizon: one of `HORIZONS`.
  """

  optimizer: str
  inner_optimizer: str
  learning_rate: float
  momentum: float
  nesterov: bool
  weight_decay: float | None
  lambda_0: float | None
  loss_predictor: str
  horizon: str


def define() -> None:
  """Registers the flags of this group."""
  flags.DEFINE_enum(
    "optimizer",
    "lc_asgd",
    RULES,
    "What becomes of late gradients; dc_asgd is the adaptive form.",
  )
  flags.DEFINE_enum(
    "inner_optimizer",
    "sgd",
    INNER_OPTIMIZERS,
    "What applies the compensated gradients.",
  )
  flags.DEFINE_float(
    "learning_rate", 0.05, "Of the inner optimizer.", lower_bound=0.0
  )
  flags.DEFINE_float("momentum", 0.9, "Of SGD; of every worker for dana.")
  momentum.check("momentum")
  flags.DEFINE_bool("nesterov", False, "Nesterov momentum; of SGD.")
  flags.DEFINE_float(
    "weight_decay", None, "Of the inner optimizer.", lower_bound=0.0
  )
  flags.DEFINE_float(
    "lambda_0",
    None,
    "Strength of DC-ASGD's compensation; by default its paper's.",
    lower_bound=0.0,
  )
  for name in ("learning_rate", "weight_decay", "lambda_0"):
    finite.check(name)
  flags.DEFINE_enum("loss_predictor", "lstm", LOSS_PREDICTORS, "Of LC-ASGD.")
  flags.DEFINE_enum(
    "horizon",
    "observed",
    HORIZONS,
    "Which staleness LC-ASGD predicts the loss for.",
  )


def read() -> OptimizerOptions:
  """Returns the parsed flags of this group.

  Raises:
    UsageError: if two of them contradict each other, or one means nothing
      beside another.
  """
  values = flags.FLAGS
  if values.optimizer == "dana" and values.nesterov:
    raise app.UsageError(
      "--optimizer=dana looks ahead by itself: leave out --nesterov"
    )
  for name, meant in _ONLY_WITH.items():
    given = values[name].present and values[name].value != _OFF.get(name)
    if given and all(
      values[other].value not in meant[other] for other in meant
    ):
      other, names = next(iter(meant.items()))
      raise app.UsageError(
        f"--{name} means nothing with --{other}={values[other].value}: leave "
        f"it out, or use --{other}={' or '.join(names)}"
      )
  if values.nesterov and not values.momentum:
    raise app.UsageError(
      "--nesterov means nothing with --momentum=0: leave it out"
    )
  return OptimizerOptions(
    optimizer=values.optimizer,
    inner_optimizer=values.inner_optimizer,
    learning_rate=values.learning_rate,
    momentum=values.momentum,
    nesterov=values.nesterov,
    weight_decay=values.weight_decay,
    lambda_0=values.lambda_0,
    loss_predictor=values.loss_predictor,
    horizon=values.horizon,
  )
