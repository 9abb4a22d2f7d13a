"""This package: `AsyncTrainer` with the rule and precision it is told."""

from benchmarks import networks
from benchmarks.systems import contest


def main() -> None:
  """Trains on a local cluster, in turns."""
  options = contest.arguments()
  with contest.cluster_of(options) as (strategy, watch):
    import keras

    import lc_asgd_tf
    from benchmarks import rules

    model = networks.keras_network(options.network, keras)
    model.compile(
      rules.create(options.rule, 0.01),
      keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )

    def dataset_fn():
      return networks.dataset(options.batch)

    trainer = lc_asgd_tf.AsyncTrainer(
      model, strategy, pull_dtype=options.pull_dtype
    )
    callbacks = [watch.callback(keras)]

    def run(steps):
      trainer.fit(
        dataset_fn, steps_per_epoch=steps, verbose=0, callbacks=callbacks
      )
      return watch.turn(steps)

    contest.take_turns(run)


if __name__ == "__main__":
  main()
