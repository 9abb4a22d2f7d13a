"""How close one push comes to the bandwidth of memory.

    python -m benchmarks.update

times a push of LC-ASGD with momentum on a server that is compiled as on a ps
task, with as many weights as ResNet-50 has, and between the repetitions a
triad, a <- b + s c, on vectors of the same size in the same process: STREAM's
measure of what memory can do (McCalpin 1995). A ps task's settings apply.

The bytes are those that must move. A push reads gradient, weights, snapshot, MS
and velocity and writes weights, MS, velocity and the reply, which then is the
next snapshot; the rule's sums must be known before the first weight is changed,
so that gradient, weights, snapshot and MS are read twice. Messages on their way
through the network are not part of it.
"""

import itertools
import os
import time
from collections.abc import Callable, Sequence

import numpy as np
from absl import app, flags

_WEIGHTS = flags.DEFINE_integer(
  "weights", 25_600_000, "How many weights.", lower_bound=1
)
_WORKERS = flags.DEFINE_integer(
  "workers", 2, "How many push in turn.", lower_bound=1
)
_REPETITIONS = flags.DEFINE_integer(
  "repetitions", 15, "How often each is timed.", lower_bound=1
)
_THREADS = flags.DEFINE_integer(
  "threads", os.cpu_count(), "Threads that compute.", lower_bound=1
)

_BYTES = 4
# Vectors of the model's size that move, by rule.
_VECTORS = {"ASGD": 6, "LCASGD": 13}
_TRIAD_VECTORS = 3


def main(argv: Sequence[str]) -> None:
  """Measures and prints."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument: {argv[1]!r}")
  from lc_asgd_tf import cluster

  os.environ.update(cluster.common_environment(os.environ, "ps"))
  cluster.keep_freed_memory()
  import tensorflow as tf

  tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
  operations = {"triad": _triad()} | {name: _push(name) for name in _VECTORS}
  vectors = {"triad": _TRIAD_VECTORS} | _VECTORS
  seconds = {name: [] for name in operations}
  for operation in operations.values():
    for _ in range(3):
      operation()
  for _ in range(_REPETITIONS.value):
    for name, operation in operations.items():
      began = time.perf_counter()
      operation()
      seconds[name].append(time.perf_counter() - began)
  print(
    f"{_WEIGHTS.value:,} weights, {_WORKERS.value} workers, {_THREADS.value} "
    f"threads, medians of {_REPETITIONS.value}, quartiles of the ratio in "
    "brackets.\n"
  )
  print("| | vectors moved | ms | GB/s | / triad |")
  print("| --- | ---: | ---: | ---: | ---: |")
  rates = {
    name: vectors[name] * _WEIGHTS.value * _BYTES / np.array(own)
    for name, own in seconds.items()
  }
  for name, rate in rates.items():
    ratios = rate / rates["triad"]
    low, high = np.quantile(ratios, [0.25, 0.75])
    print(
      f"| {name} | {vectors[name]} | {1000 * np.median(seconds[name]):.1f} | "
      f"{np.median(rate) / 1e9:.1f} | {np.median(ratios):.2f} "
      f"[{low:.2f}, {high:.2f}] |"
    )


def _triad() -> Callable[[], None]:
  """Returns a function that runs a triad, in place."""
  import tensorflow as tf

  a, b, c = (tf.Variable(tf.ones([_WEIGHTS.value])) for _ in range(3))

  @tf.function(jit_compile=True)
  def triad(scale):
    a.assign(b + scale * c)
    return scale

  scale = tf.constant(3.0)
  return lambda: triad(scale).numpy()


def _push(rule: str) -> Callable[[], None]:
  """Returns a function that runs a push, kept as a snapshot as on a ps."""
  import keras
  import tensorflow as tf

  from benchmarks import rules
  from lc_asgd_tf import server
  from lc_asgd_tf.server import snapshots

  optimizer = rules.create(rule, 1e-3)
  variable = keras.Variable(
    tf.random.stateless_normal([_WEIGHTS.value], [0, 0]), name="weights"
  )
  hosted = server.Server(
    [[variable]],
    [optimizer.new_inner_optimizer(_WORKERS.value)],
    optimizer.compensation,
    num_workers=_WORKERS.value,
    flat=True,
    # As on a ps: with every push, the forecast is brought up to date.
    loss_predictor=(
      optimizer.loss_predictor
      if optimizer.compensation.uses_prediction
      else None
    ),
    follows=True,
  )
  del variable
  gradient = tf.random.stateless_normal([_WEIGHTS.value], [0, 1])
  messages = hosted.messages([[gradient]], tf.constant(1.0))
  kept = None
  if optimizer.compensation.uses_displacement:
    (spec,) = hosted.reply_specs()
    kept = snapshots.SeparateSnapshots(tf.zeros(spec.shape), _WORKERS.value)
    for m in range(_WORKERS.value):
      worker = tf.constant(m, tf.int64)
      kept.write(kept.handle(worker), hosted.pull(worker)[0])

  @tf.function(autograph=False)
  def push(worker):
    if kept is None:
      return hosted.push(worker, messages, [None])
    handle = kept.handle(worker)
    (reply,) = hosted.push(worker, messages, [kept.read(handle)])
    kept.write(handle, reply)
    return reply

  workers = itertools.cycle(
    [tf.constant(m, tf.int64) for m in range(_WORKERS.value)]
  )

  def run():
    push(next(workers))
    hosted.ledger.version.numpy()

  return run


if __name__ == "__main__":
  app.run(main)
