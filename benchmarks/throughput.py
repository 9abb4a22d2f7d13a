"""Steps per second of whole clusters, side by side.

    python -m benchmarks.throughput

trains the same networks on the same data with every system that is installed:
this package, tf_keras's `fit` and a loop with Keras's own SGD on the same kind
of cluster, and a parameter server of PyTorch. The limit is the same network in
as many processes that share nothing. All systems are up at once and take turns,
those that wait being stopped; in each repetition every one of them trains for
about the same time, in a random order, and ratios are taken within a
repetition, so that a slow phase of the machine touches all sides.

tf_keras and the loop run on TensorFlow's own servers, with as many threads, 10
steps per execution; `tf_keras_tuned` runs on the servers of this package, whose
idle threads sleep and which keep their memory (see docs/performance.md), 100.

Beside it stands the processor time per step of workers, ps and coordinator,
which says where a step's time goes.
"""

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence

from absl import app, flags

from benchmarks import networks
from benchmarks.systems import tournament


@dataclasses.dataclass(frozen=True)
class Contestant:
  """One row of the table.

  Attributes:
    program: a module of `benchmarks.systems`.
    rule: for this package, a class of `lc_asgd_tf`.
    pull_dtype: for this package, the precision in which workers pull.
    stock: whether on TensorFlow's own servers, rather than on this package's.
    needs: the package that must be installed.
  """

  program: str
  rule: str = ""
  pull_dtype: str = "float32"
  stock: bool = False
  needs: str = "lc_asgd_tf"


_LIMIT = "limit"
_CONTESTANTS: Mapping[str, Contestant] = {
  _LIMIT: Contestant("compute_limit"),
  "lc_asgd": Contestant("async_trainer", "LCASGD"),
  "lc_asgd_bfloat16": Contestant("async_trainer", "LCASGD", "bfloat16"),
  "asgd": Contestant("async_trainer", "ASGD"),
  "tf_keras": Contestant("tf_keras_fit", stock=True, needs="tf_keras"),
  "tf_keras_tuned": Contestant("tf_keras_fit", needs="tf_keras"),
  "keras_loop": Contestant("keras_loop", stock=True),
  "torch_rpc": Contestant("torch_rpc", needs="torch"),
}
_REFERENCES = (_LIMIT, "asgd", "tf_keras")
_PACKAGES = ("tensorflow", "keras", "tf_keras", "torch")

_NETWORKS = flags.DEFINE_multi_enum(
  "network", ["resnet20", "mlp20"], list(networks.NAMES), "What to train."
)
_SYSTEMS = flags.DEFINE_multi_enum(
  "system", list(_CONTESTANTS), list(_CONTESTANTS), "Who takes part."
)
_WORKERS = flags.DEFINE_integer(
  "workers", 2, "Worker processes of each system.", lower_bound=1
)
_BATCH = flags.DEFINE_integer(
  "batch", 32, "Examples per step.", lower_bound=1, upper_bound=1000
)
_SECONDS = flags.DEFINE_float(
  "seconds", 8.0, "About how long one turn takes.", lower_bound=0.1
)
_REPETITIONS = flags.DEFINE_integer(
  "repetitions", 5, "How often every system has its turn.", lower_bound=1
)


def main(argv: Sequence[str]) -> None:
  """Measures and prints."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument: {argv[1]!r}")
  names = []
  for name in dict.fromkeys(_SYSTEMS.value):
    needs = _CONTESTANTS[name].needs
    if importlib.util.find_spec(needs):
      names.append(name)
    else:
      print(f"{name} is left out: the package {needs} is not installed.")
  print(tournament.environment(_PACKAGES))
  for network in dict.fromkeys(_NETWORKS.value):
    print(
      f"\n{network}, batches of {_BATCH.value}, {_WORKERS.value} workers; "
      f"medians of {_REPETITIONS.value} turns of about {_SECONDS.value:g} s, "
      "quartiles in brackets; processor time in ms per step.\n"
    )
    turns = tournament.play(
      {name: _command(name, network) for name in names},
      _SECONDS.value,
      _REPETITIONS.value,
      # In whole executions of all workers.
      granule=20 * _WORKERS.value,
    )
    references = [name for name in _REFERENCES if name in names]
    print(tournament.table(turns, references), flush=True)


def _command(name: str, network: str) -> list[str]:
  contestant = _CONTESTANTS[name]
  command = [
    f"benchmarks.systems.{contestant.program}",
    f"--network={network}",
    f"--workers={_WORKERS.value}",
    f"--batch={_BATCH.value}",
  ]
  if contestant.rule:
    command.append(f"--rule={contestant.rule}")
    command.append(f"--pull_dtype={contestant.pull_dtype}")
  if contestant.stock:
    command.append("--stock")
  return command


if __name__ == "__main__":
  app.run(main)
