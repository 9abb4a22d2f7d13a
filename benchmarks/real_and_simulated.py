"""Real worker processes beside simulated ones that replay their delays.

    python -m benchmarks.real_and_simulated

trains the same network with the same rule twice: on a local cluster of real
processes, some of them slowed down, and in `keras.Model.fit` with simulated
workers that take, and rest, as long as the real ones were recorded to. Test
errors should agree within the noise of seeds (p is that of no difference), and
the distributions of the staleness should be the same. It also says how good the
server's forecasts were on the real cluster, beside forecasts of no change.

Every finished run is kept in --output_dir at once; started again with the same
flags, it goes on where it was.
"""

import collections
import math
import multiprocessing
import os
import pathlib
import statistics
from collections.abc import Sequence

from absl import app, flags

_RULES = {"asgd": "ASGD", "dc_asgd": "DCASGD", "lc_asgd": "LCASGD"}

_RULE_NAMES = flags.DEFINE_list(
  "rules", "asgd,dc_asgd,lc_asgd", f"Any of {', '.join(_RULES)}."
)
_WORKERS = flags.DEFINE_list("num_workers", "2,4,8", "How many processes.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each.", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", 30, "Passes over digits.", 1)
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 0.1, "Of SGD.")
_MILLISECONDS = flags.DEFINE_float(
  "milliseconds", 20.0, "How long the fastest worker waits for each batch.", 0.0
)
_SPREAD = flags.DEFINE_float(
  "spread", 4.0, "How many times longer the slowest worker waits.", 1.0
)
_OUTPUT_DIR = flags.DEFINE_string(
  "output_dir", "lc_asgd_real", "Where results, traces and logs are kept."
)

# How wrong the server's forecasts are, of the loss and of the staleness of the
# next push, each beside that of no change.
_FORECASTS = (
  "loss_prediction_mae",
  "loss_persistence_mae",
  "step_prediction_mae",
  "step_persistence_mae",
)


def main(argv: Sequence[str]) -> None:
  """Runs what is missing, and prints tables."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument: {argv[1]!r}")
  unknown = set(_RULE_NAMES.value) - set(_RULES)
  if unknown:
    raise app.UsageError(f"--rules: there is no {', '.join(sorted(unknown))}.")
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  from lc_asgd_tf import comparison

  directory = pathlib.Path(_OUTPUT_DIR.value).resolve()
  real = comparison.Store(directory / "real")
  replayed = comparison.Store(directory / "replayed")
  options = (_MILLISECONDS.value / 1e3, _SPREAD.value)
  # The cell is told by its trace: whatever else matters is in the name.
  variant = "".join(
    f"-{flag.name}={flag.value}"
    for flag in (_MILLISECONDS, _SPREAD, _EPOCHS, _LEARNING_RATE)
    if flag.value != flag.default
  )
  cells = [
    comparison.Cell(
      dataset="digits",
      model="deep_mlp",
      rule=rule,
      num_workers=int(workers),
      delays=str(directory / f"{rule}-{workers}-{seed}{variant}" / "trace.csv"),
      inner_optimizer="sgd",
      learning_rate=_LEARNING_RATE.value,
      momentum=0.0,
      batch_size=16,
      epochs=_EPOCHS.value,
      seed=seed,
    )
    for seed in range(_SEEDS.value)
    for workers in _WORKERS.value
    for rule in _RULE_NAMES.value
  ]
  context = multiprocessing.get_context("spawn")
  for cell in real.missing(cells):
    print(f"{cell.rule}, {cell.num_workers} workers, seed {cell.seed}")
    # TensorFlow connects a process to one cluster, once.
    with context.Pool(1) as pool:
      real.add(cell, pool.apply(_train, (cell, *options)))
  missing = replayed.missing(cells)
  for cell, result in comparison.run(
    missing, comparison.run_cells, os.cpu_count() or 1
  ):
    replayed.add(cell, result)
  records = list(zip(real.select(cells), replayed.select(cells), strict=True))
  print(_agreement_table(records))
  print()
  print(_forecast_table([record for record, _ in records]))


def _train(cell, seconds: float, spread: float) -> dict[str, object]:
  """Trains on a cluster of processes, and records its trace."""
  from lc_asgd_tf.cluster import resources

  os.environ.update(resources.coordinator_environment(os.environ))
  import keras
  import numpy as np

  import lc_asgd_tf
  from lc_asgd_tf import cluster, datasets, models

  trace = pathlib.Path(cell.delays)
  trace.parent.mkdir(parents=True, exist_ok=True)
  dataset = datasets.load(cell.dataset)
  with cluster.LocalCluster(
    cell.num_workers, 1, trace.parent / "logs"
  ) as local:
    strategy = cluster.connect(local.specification)
    keras.utils.set_random_seed(cell.seed)
    model = models.create(cell.model, dataset.input_shape, dataset.num_classes)
    rule = getattr(lc_asgd_tf, _RULES[cell.rule])
    model.compile(
      rule(cell.learning_rate),
      keras.losses.SparseCategoricalCrossentropy(from_logits=True),
      metrics=["accuracy"],
    )

    def dataset_fn(context):
      worker = context.input_pipeline_id
      batches = dataset.train(cell.batch_size, seed=cell.seed, worker=worker)
      return _slowed(batches, worker, cell.num_workers, seconds, spread)

    trainer = lc_asgd_tf.AsyncTrainer(model, strategy)
    history = trainer.fit(
      dataset_fn,
      epochs=cell.epochs,
      steps_per_epoch=datasets.steps_per_epoch(dataset, cell.batch_size),
      callbacks=[lc_asgd_tf.callbacks.TraceRecorder(trainer, trace)],
      verbose=0,
    ).history
    rows, pushes = trainer.reports()
    scores = model.evaluate(dataset.test(256), return_dict=True, verbose=0)
  values, counts = np.unique(rows[:pushes, 3].astype(int), return_counts=True)
  result = {
    "test_error": 1 - scores["accuracy"],
    "staleness": dict(zip(map(str, values), map(int, counts), strict=True)),
  }
  for name in _FORECASTS:
    known = [value for value in history[name] if math.isfinite(value)]
    result[name] = statistics.fmean(known) if known else None
  return result


def _slowed(batches, worker, num_workers, seconds, spread):
  """Returns the data set, of which worker m must wait for every batch.

  From `seconds` for the first worker evenly up to `spread` times as long for
  the last one.
  """
  import tensorflow as tf

  from benchmarks import slow_data

  position = tf.cast(worker, tf.float64) / max(1, num_workers - 1)
  return slow_data.delayed(batches, seconds * (1 + (spread - 1) * position))


def _agreement_table(records) -> str:
  """Returns test errors and staleness, real beside replayed."""
  lines = [
    "| rule | workers | test error: real | replayed | p "
    "| staleness, mean: real | replayed | 95th percentile: real | replayed "
    "| overlap |",
    f"| --- |{9 * ' ---: |'}",
  ]
  for (rule, workers), pairs in _grouped(records).items():
    columns = []
    sides = list(zip(*pairs, strict=True))
    for measure in (_errors, _mean_staleness, _high_staleness):
      columns += map(measure, sides)
    columns.insert(2, _p_value(*sides))
    overlaps = [_overlap(*pair) for pair in pairs]
    columns.append(f"{100 * statistics.fmean(overlaps):.0f} %")
    lines.append(f"| {rule} | {workers} | {' | '.join(columns)} |")
  return "\n".join(lines)


def _forecast_table(records) -> str:
  """Returns mean absolute errors of forecasts, beside those of no change."""
  lines = [
    "| rule | workers | loss: predicted | unchanged "
    "| staleness: predicted | unchanged |",
    "| --- | ---: | ---: | ---: | ---: | ---: |",
  ]
  for (rule, workers), runs in _grouped(records).items():
    columns = []
    for name in _FORECASTS:
      known = [run[name] for run in runs if run[name] is not None]
      columns.append(f"{statistics.fmean(known):.3g}" if known else "")
    lines.append(f"| {rule} | {workers} | {' | '.join(columns)} |")
  return "\n".join(lines)


def _grouped(records):
  groups = collections.defaultdict(list)
  for record in records:
    first = record[0] if isinstance(record, tuple) else record
    groups[first["rule"], first["num_workers"]].append(record)
  return groups


def _errors(runs) -> str:
  errors = [100 * run["test_error"] for run in runs]
  deviation = statistics.stdev(errors) if len(errors) > 1 else 0.0
  return f"{statistics.fmean(errors):.2f} ± {deviation:.2f}"


def _p_value(real, replayed) -> str:
  """Returns that of Welch's t-test of no difference between test errors."""
  import scipy.stats

  if len(real) < 2:
    return ""
  test = scipy.stats.ttest_ind(
    *([run["test_error"] for run in runs] for runs in (real, replayed)),
    equal_var=False,
  )
  return f"{test.pvalue:.2g}"


def _shares(run) -> dict[int, float]:
  total = sum(run["staleness"].values())
  return {int(tau): n / total for tau, n in run["staleness"].items()}


def _mean_staleness(runs) -> str:
  means = [sum(tau * p for tau, p in _shares(run).items()) for run in runs]
  return f"{statistics.fmean(means):.2f}"


def _high_staleness(runs) -> str:
  """Returns the tau that 95 percent of the pushes do not exceed."""
  import numpy as np

  highs = []
  for run in runs:
    values, shares = zip(*sorted(_shares(run).items()), strict=True)
    highs.append(values[np.searchsorted(np.cumsum(shares), 0.95)])
  return f"{statistics.fmean(highs):.1f}"


def _overlap(one, other) -> float:
  """Returns what two distributions of the staleness have in common, to 1."""
  one, other = _shares(one), _shares(other)
  return sum(min(share, other.get(tau, 0.0)) for tau, share in one.items())


if __name__ == "__main__":
  app.run(main)
