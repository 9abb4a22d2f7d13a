"""Compares asynchronous training rules in simulation: lc-asgd-compare.

Every combination of rule, number of workers, delay model, learning rate and
seed is one run of keras.Model.fit with simulated workers. Each finished run is
written at once to --output_dir, so that an interrupted comparison, started
again with the same flags, goes on where it was. At the end there is a report:
Markdown tables and PNG plots.

Rules: all (ssgd, asgd, staleness_aware, gap_aware, dana, dc_asgd_c, dc_asgd,
lc_asgd), controls (see lc_asgd_tf/comparison/rules.py), or any of their names.
With --import=MODULE, MODULE may add rules by lc_asgd_tf.comparison.register and
networks by lc_asgd_tf.models.register.
"""

import contextlib
import functools
import importlib
import math
import os
import sys

from absl import app
from absl import flags as absl_flags

from flags import comparison as comparison_flags
from trainers import program

# Of whole numbers, as NumPy and TensorFlow take them.
_LARGEST = 2**31


def main(argv: list[str]) -> int:
  """Runs what is missing, then writes the report; returns the exit status."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument: {argv[1]!r}")
  # Imported here, so that `--help` and a bad flag wait for nothing.
  from trainers import terminal

  noise = terminal.Noise()
  from lc_asgd_tf import comparison, reports
  from lc_asgd_tf.cluster import resources

  options = comparison_flags.read()
  _import(options.imports)
  cells = _cells(options)
  store = comparison.Store(options.output_dir)
  # Before the work, and not after it.
  reports.check(store.records, store.path)
  noise.keep_in(store.path.with_name("compare.log"))
  missing = store.missing(cells, options.judge)
  if missing:
    # What does not fit is said before a process starts. Where all is done, the
    # data need not be there any more.
    comparison.load_dataset(missing[0], options.data_dir)
  run_cells = functools.partial(
    _run_cells, options.imports, options.data_dir, options.judge
  )
  cores = resources.Machine.detect(os.environ).cores
  results = comparison.run(missing, run_cells, options.processes or cores)
  progress = _Progress(total=len(cells), done=len(cells) - len(missing))
  with contextlib.closing(progress), contextlib.closing(results):
    for cell, result in results:
      store.add(cell, result)
      progress.add()
  print(
    reports.write(
      store.select(cells), options.output_dir, options.target_error
    ),
    end="",
    flush=True,
  )
  return 0


def _import(modules) -> None:
  from lc_asgd_tf import errors

  # A module beside the user, as `python -m` would find it.
  if "" not in sys.path:
    sys.path.insert(0, "")
  for module in modules:
    if module.startswith("."):
      raise errors.UserError(
        f"--import={module}: it takes the whole name of a module."
      )
    try:
      importlib.import_module(module)
    except ImportError as error:
      raise errors.UserError(f"--import={module}: {error}.") from error
    except errors.UserError:
      raise
    # A module may raise anything, as it may be anything.
    except (Exception, SystemExit) as error:
      raise errors.UserError(
        f"--import={module}: {type(error).__name__}: {error}."
      ) from error


def _run_cells(imports, data_dir, judge, cells):
  """Runs in processes of its own."""
  from lc_asgd_tf import comparison

  _import(imports)
  return comparison.run_cells(cells, data_dir, judge)


def _cells(options):
  """Returns the cells that the flags describe."""
  from lc_asgd_tf import comparison, models

  wanted = {
    **comparison.DEFAULTS,
    **comparison.PRESETS[options.preset],
    **options.given,
  }
  base = comparison.Cell(
    rule=comparison.SEQUENTIAL,
    num_workers=1,
    delays=comparison.NO_DELAYS,
    learning_rate=0.0,
    seed=0,
    **{
      name: wanted[name]
      for name in (
        "dataset",
        "model",
        "inner_optimizer",
        "momentum",
        "batch_size",
        "epochs",
        "batch_norm",
        "train_split",
        "test_split",
      )
    },
  )
  models.check_name(base.model)
  for name in ("rules", "delays"):
    if not wanted[name]:
      raise app.UsageError(f"--{name} is empty: name at least one.")
  delays = list(wanted["delays"])
  for name in delays:
    if name == comparison.NO_DELAYS:
      raise app.UsageError(
        f"--delays={name} is what one worker has: name the others' delays."
      )
    comparison.make_delays(name, seed=0)
  rules = comparison.expand_rules(wanted["rules"])
  if (
    base.momentum
    and base.inner_optimizer != "sgd"
    and not comparison.may_use_momentum(rules)
  ):
    raise app.UsageError(
      "--momentum means nothing with --inner_optimizer="
      f"{base.inner_optimizer}: leave it out, or use --inner_optimizer=sgd"
    )
  grid = comparison.Grid(
    base,
    rules=rules,
    num_workers=_numbers("num_workers", wanted, int, smallest=1),
    delays=delays,
    learning_rates=_numbers("learning_rates", wanted, float, smallest=0),
    seeds=range(wanted["seeds"]),
  )
  return grid.cells()


def _numbers(name, wanted, kind, smallest):
  """Returns the numbers of a list-valued flag."""
  numbers = []
  for text in wanted[name]:
    try:
      number = kind(text)
    except ValueError:
      number = None
    too_large = _LARGEST if kind is int else math.inf
    if number is None or not smallest <= number < too_large:
      raise app.UsageError(
        f"--{name}: {text!r} is not "
        f"{'a whole number' if kind is int else 'a number'} from {smallest} on"
      )
    numbers.append(number)
  if not numbers:
    raise app.UsageError(f"--{name}: there must be at least one")
  return list(dict.fromkeys(numbers))


class _Progress:
  """Keras's progress bar, on standard error, with the time left."""

  def __init__(self, total: int, done: int) -> None:
    print(f"{total} runs, of which {done} are done already", file=sys.stderr)
    self._added = 0
    self._bar = None
    if total > done:
      import keras

      self._bar = keras.utils.Progbar(total - done, unit_name="run")

  def add(self) -> None:
    self._added += 1
    with contextlib.redirect_stdout(sys.stderr):
      self._bar.update(self._added)

  def close(self) -> None:
    """Ends the line of the bar, if it has not ended it itself."""
    if self._bar is not None and self._added < self._bar.target:
      print(file=sys.stderr)


def run() -> None:
  """The console script lc-asgd-compare."""
  # Not on import: flags of these names are other programs', too.
  comparison_flags.define()
  absl_flags.adopt_module_key_flags(comparison_flags)
  program.run(main)


if __name__ == "__main__":
  run()
