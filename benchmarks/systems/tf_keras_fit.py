"""tf_keras (Keras 2), whose `fit` knows parameter servers: plain ASGD."""

from benchmarks import networks
from benchmarks.systems import contest

_STEPS_PER_EXECUTION = 10


def main() -> None:
  """Trains on a local cluster, in turns."""
  options = contest.arguments()
  with contest.cluster_of(options) as (strategy, watch):
    import tf_keras

    with strategy.scope():
      model = networks.keras_network(options.network, tf_keras)
      model.compile(
        tf_keras.optimizers.SGD(0.01, momentum=0.9),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=_STEPS_PER_EXECUTION,
      )
    data = tf_keras.utils.experimental.DatasetCreator(
      lambda context: networks.dataset(options.batch)
    )
    callbacks = [watch.callback(tf_keras)]

    def run(steps):
      executions = max(1, steps // _STEPS_PER_EXECUTION)
      steps = executions * _STEPS_PER_EXECUTION
      model.fit(data, steps_per_epoch=steps, verbose=0, callbacks=callbacks)
      return watch.turn(steps)

    contest.take_turns(run)


if __name__ == "__main__":
  main()
