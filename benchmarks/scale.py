"""What a push costs, and what a ps holds, by the number of workers.

    python -m benchmarks.scale
    python -m benchmarks.scale --network=wide --workers=1,2,4,8

trains one network on clusters with more and more worker processes, one cluster
after the other. On a machine with few cores the workers mostly wait for one
another; what a push costs the ps is its processor time. The memory of the ps is
what its resident memory has grown by since the cluster started, beside what it
should need (docs/performance.md, "Memory").
"""

from collections.abc import Sequence

import numpy as np
from absl import app, flags

from benchmarks import networks
from benchmarks.systems import tournament

_NETWORK = flags.DEFINE_enum(
  "network", "mlp20", list(networks.NAMES), "What to train."
)
_WORKERS = flags.DEFINE_list("workers", "1,4,16,64", "How many processes.")
_BATCH = flags.DEFINE_integer(
  "batch", 32, "Examples per step.", lower_bound=1, upper_bound=1000
)
_SECONDS = flags.DEFINE_float(
  "seconds", 5.0, "About how long one turn takes.", lower_bound=0.1
)
_REPETITIONS = flags.DEFINE_integer(
  "repetitions", 5, "How many turns each cluster has.", lower_bound=1
)

_HEADER = (
  "workers",
  "steps/s",
  "worker",
  "ps",
  "coordinator",
  "ps memory, MB",
  "formula",
)


# What a ps needs for the functions it runs, whatever the model.
_FIXED_MEGABYTES = 150
# With LC-ASGD and momentum: weights, MS and velocity.
_STATE = 3


def main(argv: Sequence[str]) -> None:
  """Measures and prints."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument: {argv[1]!r}")
  print(tournament.environment(("tensorflow", "keras")))
  print(
    f"\n{_NETWORK.value}, LC-ASGD, momentum 0.9, batches of "
    f"{_BATCH.value}; medians of {_REPETITIONS.value} turns of about "
    f"{_SECONDS.value:g} s; processor time in ms per step.\n"
  )
  print(_line(_HEADER))
  print(_line(["---:"] * len(_HEADER)))
  megabytes = 4 * networks.num_weights(_NETWORK.value) / 1e6
  for workers in map(int, _WORKERS.value):
    (turns,) = tournament.play(
      {
        "cluster": [
          "benchmarks.systems.async_trainer",
          f"--network={_NETWORK.value}",
          f"--workers={workers}",
          f"--batch={_BATCH.value}",
          "--rule=LCASGD",
        ]
      },
      _SECONDS.value,
      _REPETITIONS.value,
      granule=20 * workers,
    ).values()
    speed = np.median([turn.steps_per_second for turn in turns])
    used = [
      np.median([turn.milliseconds_per_step(role) for turn in turns])
      for role in tournament.ROLES
    ]
    growth = max(turn.memory_growth["ps"] for turn in turns)
    print(
      _line(
        [
          workers,
          f"{speed:.1f}",
          *(f"{value:.2f}" for value in used),
          f"{growth / 1e6:.0f}",
          f"{_FIXED_MEGABYTES + 4 * (_STATE + workers) * megabytes:.0f}",
        ]
      ),
      flush=True,
    )


def _line(cells) -> str:
  return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
  app.run(main)
