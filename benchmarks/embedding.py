"""What a step costs where the model is one large table of embeddings.

    python -m benchmarks.embedding

trains the same small model on real clusters, with tables of several sizes, of
which workers pull and push rows (`SparseEmbedding`), and with tables that they
pull and push as a whole (`keras.layers.Embedding`), as far as these are not too
large. All clusters are up at once and take turns, as in `throughput`.
"""

from collections.abc import Sequence

from absl import app, flags

from benchmarks.systems import tournament

_ROWS = flags.DEFINE_list(
  "rows", "10000,100000,1000000", "Sizes of the tables."
)
_DENSE_ROWS = flags.DEFINE_list(
  "dense_rows", "10000,100000", "Sizes of the tables that travel as a whole."
)
_RULE = flags.DEFINE_string("rule", "LCASGD", "A class of lc_asgd_tf.")
_WORKERS = flags.DEFINE_integer(
  "workers", 2, "Worker processes of each system.", lower_bound=1
)
_BATCH = flags.DEFINE_integer(
  "batch", 32, "Examples per step, of 20 ids each.", lower_bound=1
)
_SECONDS = flags.DEFINE_float(
  "seconds", 5.0, "About how long one turn takes.", lower_bound=0.1
)
_REPETITIONS = flags.DEFINE_integer(
  "repetitions", 5, "How often every system has its turn.", lower_bound=1
)


def main(argv: Sequence[str]) -> None:
  """Measures and prints."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument: {argv[1]!r}")
  commands = {}
  for layer, sizes in (("sparse", _ROWS.value), ("dense", _DENSE_ROWS.value)):
    for rows in sizes:
      commands[f"{layer} {int(rows):,}"] = [
        "benchmarks.systems.embedding",
        f"--layer={layer}",
        f"--rows={rows}",
        f"--rule={_RULE.value}",
        f"--workers={_WORKERS.value}",
        f"--batch={_BATCH.value}",
      ]
  print(tournament.environment(("tensorflow", "keras")))
  print(
    f"\n{_RULE.value}, batches of {_BATCH.value}, {_WORKERS.value} workers; "
    f"medians of {_REPETITIONS.value} turns of about {_SECONDS.value:g} s, "
    "quartiles in brackets; processor time in ms per step.\n"
  )
  turns = tournament.play(
    commands, _SECONDS.value, _REPETITIONS.value, granule=20 * _WORKERS.value
  )
  print(tournament.table(turns, list(commands)[:1]), flush=True)


if __name__ == "__main__":
  app.run(main)
