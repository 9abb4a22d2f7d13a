"""What a simulated step costs against a step of Keras's own SGD.

    python -m benchmarks.simulation

trains one model, on scikit-learn's digits in memory, with Keras's SGD and with
simulated workers. All systems call Keras's compiled train function on an
iterator, without `fit` and its callbacks around it. Every system is built and
warmed up first; then, in each repetition, every system in turn trains for some
steps, in a random order. Ratios are taken within a repetition, so that a slow
phase of the machine touches both sides; those of processor time hardly feel
what else runs there.

By default only the last rule runs at every number of workers, and the others at
the largest; `--all_pairs` measures the rest, which takes minutes to compile.
With one worker all rules are the inner optimizer: it is measured once.
"""

import dataclasses
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from sklearn import datasets

import lc_asgd_tf
from benchmarks import rules
from benchmarks.systems import tournament
from lc_asgd_tf import models, optimizers

_MODEL = flags.DEFINE_enum(
  "model", "resnet20", models.NAMES, "The model; its input is 8x8x1."
)
_BATCH = flags.DEFINE_integer(
  "batch", 32, "Examples per step.", lower_bound=1, upper_bound=1797
)
_STEPS = flags.DEFINE_integer(
  "steps", 5, "Steps of each system per repetition.", lower_bound=1
)
_REPETITIONS = flags.DEFINE_integer(
  "repetitions", 7, "How often every system has its turn.", lower_bound=1
)
_JIT_COMPILE = flags.DEFINE_enum(
  "jit_compile", "both", ["both", "true", "false"], "As in model.compile."
)
_WORKERS = flags.DEFINE_list("workers", "1,8,64,256", "How many to simulate.")
_RULES = flags.DEFINE_list(
  "rules", "ASGD,DCASGD,LCASGD", "Classes of lc_asgd_tf."
)
_ALL_PAIRS = flags.DEFINE_bool(
  "all_pairs", False, "Every rule at every number of workers."
)

_PACKAGES = ("tensorflow", "keras", "numpy")
_WARM_UP_STEPS = 3
_LEARNING_RATE = 0.01


@dataclasses.dataclass
class System:
  """A model with its optimizer, warmed up.

  Attributes:
    rule: the optimizer's name.
    workers: M; None for Keras's own optimizer.
    train: trains for one step.
    data: what `train` takes.
    memory: the optimizer's state, in multiples of the trainable weights.
    build_seconds: from nothing to the end of the warm-up.
    seconds: per step, one row per repetition: wall time, processor time.
  """

  rule: str
  workers: int | None
  train: Callable
  data: Iterator
  memory: float
  build_seconds: float = 0.0
  seconds: list[tuple[float, float]] = dataclasses.field(default_factory=list)

  def run(self, steps: int) -> None:
    """Trains for some steps and notes how long one took."""
    began = _now()
    for _ in range(steps):
      logs = self.train(self.data)
    # On a CPU a step is done when it returns; elsewhere only when it is read.
    float(logs["loss"])
    self.seconds.append(tuple((_now() - began) / steps))

  def ratios(self, other: "System") -> np.ndarray:
    """Returns this system's times over the other's, per repetition."""
    return np.array(self.seconds) / np.array(other.seconds)


def _now() -> np.ndarray:
  return np.array([time.perf_counter(), time.process_time()])


def main(argv: Sequence[str]) -> None:
  """Measures and prints."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument: {argv[1]!r}")
  pairs = list(_pairs(_rules(), _worker_counts()))
  # Nothing runs beside the measured step, on no core.
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  print(
    f"{_MODEL.value}, batches of {_BATCH.value}; medians of "
    f"{_REPETITIONS.value} repetitions of {_STEPS.value} steps, with quartiles "
    "in brackets.\n"
  )
  for jit_compile in (True, False):
    if _JIT_COMPILE.value in ("both", str(jit_compile).lower()):
      print(f"jit_compile={jit_compile}\n")
      print(_table(_measure(pairs, jit_compile)), end="\n\n", flush=True)
      keras.utils.clear_session()
  load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
  print(
    f"{tournament.environment(_PACKAGES)}; one core per step; load over the "
    f"last 1, 5 and 15 minutes {load}."
  )


def _rules() -> list[str]:
  for name in _RULES.value:
    rule = getattr(lc_asgd_tf, name, None)
    if not (
      isinstance(rule, type) and issubclass(rule, optimizers.AsyncOptimizer)
    ):
      raise app.UsageError(f"--rules: {name!r} is not a rule of lc_asgd_tf")
  return _RULES.value


def _worker_counts() -> list[int]:
  try:
    counts = sorted({int(count) for count in _WORKERS.value})
  except ValueError as error:
    raise app.UsageError(f"--workers: {error}") from error
  if counts and counts[0] < 1:
    raise app.UsageError(f"--workers: {counts[0]} is less than 1")
  return counts


def _pairs(
  rules: Sequence[str], counts: Sequence[int]
) -> Iterator[tuple[str, int]]:
  """Yields what to measure beside Keras's own optimizer."""
  for rule in rules:
    for count in counts:
      is_last = rule == rules[-1]
      if count == 1:
        if is_last:
          yield rule, count
      elif is_last or count == counts[-1] or _ALL_PAIRS.value:
        yield rule, count


def _measure(
  pairs: Sequence[tuple[str, int]], jit_compile: bool
) -> list[System]:
  """Returns the systems with their times, Keras's own first."""
  systems = []
  for rule, workers in [("Keras SGD", None), *pairs]:
    systems.append(_build(rule, workers, jit_compile))
    print(
      f"built {rule}, {workers} workers: {systems[-1].build_seconds:.0f} s",
      file=sys.stderr,
    )
  order = random.Random(0)
  for _ in range(_REPETITIONS.value):
    for system in order.sample(systems, len(systems)):
      system.run(_STEPS.value)
  return systems


def _build(rule: str, workers: int | None, jit_compile: bool) -> System:
  began = time.perf_counter()
  keras.utils.set_random_seed(0)
  if workers is None:
    optimizer = keras.optimizers.SGD(_LEARNING_RATE, momentum=rules.MOMENTUM)
  else:
    optimizer = rules.create(rule, _LEARNING_RATE, num_workers=workers)
  model = models.create(_MODEL.value, (8, 8, 1), 10)
  model.compile(
    optimizer,
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    jit_compile=jit_compile,
  )
  optimizer.build(model.trainable_variables)
  # Nobody looks at the model here, so that `ServerWeights` has nothing to do.
  optimizer.shows_server_weights = True
  model.make_train_function()
  system = System(
    rule=rule,
    workers=workers,
    train=model.train_function,
    data=iter(_digits()),
    memory=_bytes(optimizer.variables) / _bytes(model.trainable_variables),
  )
  system.run(_WARM_UP_STEPS)
  system.seconds.clear()
  system.build_seconds = time.perf_counter() - began
  return system


def _digits() -> tf.data.Dataset:
  digits = datasets.load_digits()
  images = (digits.images[..., np.newaxis] / 16).astype(np.float32)
  # Batched beforehand: an epoch has no smaller last batch.
  count = len(images) // _BATCH.value * _BATCH.value
  batches = [
    array[:count].reshape(-1, _BATCH.value, *array.shape[1:])
    for array in (images, digits.target)
  ]
  return tf.data.Dataset.from_tensor_slices(tuple(batches)).repeat()


def _bytes(variables: Sequence[keras.Variable]) -> int:
  return sum(
    v.shape.num_elements() * tf.as_dtype(v.dtype).size for v in variables
  )


def _table(systems: Sequence[System]) -> str:
  reference = systems[0]
  rows = [
    (
      *("optimizer", "workers", "ms/step", "x Keras SGD", "in processor time"),
      "state / weights",
    ),
    ("---", *["---:"] * 5),
  ]
  for system in systems:
    rows.append(
      (
        "any rule" if system.workers == 1 else system.rule,
        str(system.workers or "-"),
        _spread(1000 * np.array(system.seconds)[:, 0], 1),
        *(_spread(part, 2) for part in system.ratios(reference).T),
        f"{system.memory:.2f}",
      )
    )
  for rule in dict.fromkeys(system.rule for system in systems):
    several = [s for s in systems if s.rule == rule and (s.workers or 0) > 1]
    if len(several) > 1:
      few, many = several[0], several[-1]
      rows.append(
        (
          f"{rule}, ratio of {many.workers} to {few.workers} workers",
          "",
          "",
          *(_spread(part, 2) for part in many.ratios(few).T),
          f"{many.memory / few.memory:.2f}",
        )
      )
  return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _spread(values: np.ndarray, digits: int) -> str:
  low, median, high = np.percentile(values, (25, 50, 75))
  return f"{median:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def run() -> None:
  """Entry point."""
  app.run(main)


if __name__ == "__main__":
  run()
