"""The limit: as many processes as there are workers, and nothing between them.

Each trains a model of its own with Keras's `fit`, with the threads and the
processors that a worker of a cluster has. No asynchronous training with these
models can be faster.
"""

import multiprocessing
import os

from benchmarks import networks
from benchmarks.systems import contest

# So many that what Keras does per execution is none of the limit.
_STEPS_PER_EXECUTION = 100


def _train_alone(pipe, options) -> None:
  import keras

  model = networks.keras_network(options.network, keras)
  model.compile(
    keras.optimizers.SGD(0.01, momentum=0.9),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    steps_per_execution=_STEPS_PER_EXECUTION,
  )
  data = networks.dataset(options.batch)
  watch = contest.Stopwatch({"worker": os.getpid()})
  callbacks = [watch.callback(keras)]
  pipe.send(None)
  while steps := pipe.recv():
    model.fit(data, steps_per_epoch=steps, verbose=0, callbacks=callbacks)
    pipe.send(watch.turn(steps))


def main() -> None:
  """Trains in all processes at once, in turns."""
  from lc_asgd_tf import cluster

  options = contest.arguments()
  os.environ.update(
    cluster.task_environment(
      cluster.Machine.detect(os.environ),
      "worker",
      0,
      num_workers=options.workers,
      num_ps=1,
      environ=os.environ,
    )
  )
  spawn = multiprocessing.get_context("spawn")
  pipes = []
  for worker in range(options.workers):
    pipe, theirs = spawn.Pipe()
    process = spawn.Process(
      target=_train_alone, args=(theirs, options), daemon=True
    )
    process.start()
    theirs.close()  # Or nobody would hear of its end.
    cluster.bind_worker(process.pid, worker, options.workers)
    pipes.append(pipe)
  for pipe in pipes:
    pipe.recv()

  def run(steps):
    each = max(1, steps // options.workers // _STEPS_PER_EXECUTION)
    each *= _STEPS_PER_EXECUTION
    for pipe in pipes:
      pipe.send(each)
    turns = [pipe.recv() for pipe in pipes]
    return contest.Turn(
      each * len(pipes),
      max(turn.seconds for turn in turns),
      {"worker": sum(t.processor_seconds.get("worker", 0.0) for t in turns)},
    )

  contest.take_turns(run)


if __name__ == "__main__":
  main()
