"""Trains an image classifier with asynchronous workers: lc-asgd-train.

Without TF_CONFIG in the environment it starts a parameter-server cluster on
this machine, and stops it at the end. With TF_CONFIG it is the coordinator
(task type "chief") of a cluster whose workers and parameter servers run
lc-asgd-serve.

The last line on standard output is one JSON object with the results.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import sys
import time

from absl import app
from absl import flags as absl_flags

from flags import cluster as cluster_flags
from flags import data as data_flags
from flags import model as model_flags
from flags import optimizer as optimizer_flags
from flags import output as output_flags
from flags import training as training_flags
from trainers import program

# Where the data lie, how long to go on, and what changes no result; a
# continued run may have other values of these flags.
_MAY_CHANGE = ("data_dir", "epochs", "steps_per_dispatch")

for _group in (
  cluster_flags,
  data_flags,
  model_flags,
  optimizer_flags,
  output_flags,
  training_flags,
):
  _group.define()
  absl_flags.adopt_module_key_flags(_group)


def main(argv: list[str]) -> int:
  """Trains, evaluates and saves; returns the exit status."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument: {argv[1]!r}")
  began = time.monotonic()
  # Imported here, so that `--help` and a bad flag wait for nothing, and so that
  # TensorFlow finds the environment as it should be.
  from trainers import terminal

  noise = terminal.Noise()
  from lc_asgd_tf.cluster import resources, specification

  environ = dict(os.environ)
  external = None
  if specification.in_environment(environ):
    external = specification.from_environment(environ)
    _check_is_chief(external)
  os.environ.update(
    resources.coordinator_environment(environ, local=external is None)
  )

  from lc_asgd_tf import errors
  from trainers import interrupts, run_directory

  interrupted = interrupts.Interrupts()
  interrupted.listen()
  output = output_flags.read()
  if output.tensorboard and not importlib.util.find_spec("tensorboard"):
    raise errors.UserError(
      "--tensorboard needs the package tensorboard: install it first."
    )
  model_name = os.path.splitext(os.path.basename(model_flags.read().model))[0]
  directory = run_directory.RunDirectory(
    output.output_dir,
    name=f"{data_flags.read().dataset}-{model_name}-"
    f"{optimizer_flags.read().optimizer}".replace("/", "_"),
    resume=output.resume,
  )
  noise.keep_in(directory.logs / "coordinator.log")

  import tensorflow as tf

  from lc_asgd_tf import cluster as cluster_lib

  try:
    with contextlib.ExitStack() as stack:
      local = None
      if external is None:
        options = cluster_flags.read()
        local = cluster_lib.LocalCluster(
          options.num_workers,
          options.num_ps,
          directory.logs,
          options.base_port,
          environ=environ,
          bind_workers=options.bind_workers,
        )
      try:
        result = _train(stack, external, local, interrupted, directory)
      except (KeyboardInterrupt, tf.errors.OpError, RuntimeError) as error:
        _blame_lost(external, error, directory)
        if cluster_lib.hides_interrupt(error):
          raise KeyboardInterrupt from error
        raise
  except (cluster_lib.TaskFailure, _LostTask) as failure:
    print(f"lc-asgd-train: {failure}", file=sys.stderr)
    return 1
  result["seconds"] = round(time.monotonic() - began, 3)
  result["output_dir"] = str(directory.path)
  print(json.dumps(result), flush=True)
  return 0


class _LostTask(RuntimeError):
  """A task of the user's own cluster is gone without which it cannot go on."""


def _blame_lost(external, error, directory) -> None:
  """Raises `_LostTask`, if that is what an error came from."""
  import tensorflow as tf

  # Without a worker, the coordinator goes on. A ps that has been started again
  # aborts calls that were meant for the one before it.
  lost = tf.errors.UnavailableError, tf.errors.AbortedError
  if external is not None and isinstance(error, lost):
    is_worker = "/job:worker" in str(error) and "/job:ps" not in str(error)
    raise _LostTask(
      f"a {'worker' if is_worker else 'ps'} of the cluster is gone: start its "
      "lc-asgd-serve again, and go on with --resume "
      f"--output_dir={directory.path}"
    ) from error


def _check_is_chief(specification) -> None:
  from lc_asgd_tf import errors

  if specification.task_type != "chief":
    raise errors.UserError(
      f"TF_CONFIG says that this is {specification.task_type} "
      f"{specification.task_index}: run lc-asgd-serve for it; lc-asgd-train is "
      "for the chief."
    )


def _train(stack, external, local, interrupted, directory) -> dict[str, object]:
  """Does everything that may fail for the user's reasons, then trains."""
  import keras

  import lc_asgd_tf
  from lc_asgd_tf import datasets, models
  from trainers import build

  data = data_flags.read()
  training = training_flags.read()
  output = output_flags.read()
  optimizer = optimizer_flags.read()
  dataset = datasets.load(
    data.dataset, data.data_dir, data.train_split, data.test_split
  )
  build.check_augmentation(data, dataset)
  num_workers = (external or local.specification).num_workers
  in_rounds = optimizer.optimizer == "ssgd"
  if in_rounds and training.steps_per_dispatch:
    raise app.UsageError(
      "--steps_per_dispatch means nothing with --optimizer=ssgd, whose workers "
      "wait for each other after every step: leave it out"
    )
  steps_per_epoch = build.steps_per_epoch(
    training, data, dataset, num_workers if in_rounds else 1
  )
  directory.keep_settings(
    {
      name: value
      for options in (data, model_flags.read(), optimizer, training)
      for name, value in dataclasses.asdict(options).items()
      if name not in _MAY_CHANGE
    }
  )

  def new_model():
    return models.create(
      model_flags.read().model, dataset.input_shape, dataset.num_classes
    )

  # What does not fit is said before a cluster starts.
  models.check_inputs(
    new_model(), dataset.test(1).element_spec[0], dataset.name
  )
  keras.utils.clear_session()
  strategy = _connect(stack, external, local)
  # After the strategy: connecting to a cluster renames this process's devices.
  keras.utils.set_random_seed(training.seed)
  model = new_model()
  model.compile(
    optimizer=build.optimizer(optimizer),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  test = dataset.test(data.batch_size)

  def dataset_fn(context):
    return dataset.train(
      data.batch_size,
      seed=build.order_seed(training.seed, context.pushes),
      worker=context.input_pipeline_id,
      augment=data.augment,
    )

  trainer = lc_asgd_tf.AsyncTrainer(
    model,
    strategy,
    steps_per_dispatch=training.steps_per_dispatch,
    pull_dtype=training.pull_dtype,
  )
  checkpoint = lc_asgd_tf.callbacks.ServerCheckpoint(
    trainer, directory.checkpoints
  )
  initial_epoch = 0
  if output.resume:
    trainer.build(dataset_fn)
    initial_epoch = _restore(checkpoint, directory, training.epochs)
  trainer.fit(
    dataset_fn,
    epochs=training.epochs,
    initial_epoch=initial_epoch,
    steps_per_epoch=steps_per_epoch,
    validation_data=test,
    callbacks=_callbacks(
      trainer, checkpoint, dataset, local, interrupted, directory
    ),
    verbose=1 if sys.stdout.isatty() else 2,
  )
  scores = model.evaluate(test, return_dict=True, verbose=0)
  directory.save_model(model)
  history = directory.write_history_json()
  return build.result(
    optimizer_flags.read().optimizer, trainer, scores, history
  )


def _connect(stack, external, local):
  """Returns the strategy of a cluster that serves."""
  from lc_asgd_tf import cluster as cluster_lib

  if local is not None:
    stack.enter_context(local)
    return cluster_lib.connect(local.specification)
  cluster_lib.check_port_free(external.address)
  return cluster_lib.connect(
    external,
    cluster_flags.read().connect_timeout,
    report=lambda line: print(line, file=sys.stderr),
  )


def _restore(checkpoint, directory, epochs) -> int:
  """Goes back to the latest epoch that can be read; returns the next one."""
  initial_epoch = checkpoint.restore_latest()
  directory.keep_epochs(initial_epoch, damaged=checkpoint.passed_over)
  if checkpoint.passed_over:
    print(
      f"the latest checkpoint in {directory.checkpoints} is damaged: going on "
      f"after epoch {initial_epoch}",
      file=sys.stderr,
    )
  if initial_epoch >= epochs:
    print(
      f"{directory.path} has {initial_epoch} epochs already: nothing is left "
      f"to train with --epochs={epochs}",
      file=sys.stderr,
    )
  return initial_epoch


def _callbacks(
  trainer, checkpoint, dataset, local, interrupted, directory
) -> list:
  """Returns the callbacks of a run, in the order in which they are called."""
  import keras

  import lc_asgd_tf

  data = data_flags.read()
  training = training_flags.read()
  output = output_flags.read()
  callbacks = []
  if training.batch_norm == "precise":
    # First, so that the others see its statistics.
    images = dataset.train(
      data.batch_size, seed=training.seed, augment=data.augment
    )
    callbacks.append(lc_asgd_tf.callbacks.PreciseBatchNormalization(images))
  callbacks += [
    # Before the checkpoint: a run that dies in between does this epoch again,
    # and its row goes (see `keep_epochs`).
    keras.callbacks.CSVLogger(directory.history_csv, append=output.resume),
    # A checkpoint without its row could not be continued.
    keras.callbacks.LambdaCallback(
      on_epoch_end=lambda epoch, logs: directory.sync_history()
    ),
    checkpoint,
  ]

  def check(batch, logs):
    del batch, logs
    if local is not None:
      # It interrupts this thread when a task dies.
      local.check()
    interrupted.check()

  callbacks.append(keras.callbacks.LambdaCallback(on_train_batch_end=check))
  if output.record_trace:
    callbacks.append(
      lc_asgd_tf.callbacks.TraceRecorder(
        trainer, directory.trace, append=output.resume
      )
    )
  if output.tensorboard:
    callbacks.append(keras.callbacks.TensorBoard(directory.tensorboard))
  return callbacks


def run() -> None:
  """The console script lc-asgd-train."""
  program.run(main)


if __name__ == "__main__":
  run()
