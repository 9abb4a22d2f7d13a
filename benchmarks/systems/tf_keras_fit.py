"""tf_keras (Keras 2), whose `fit` knows parameter servers: plain ASGD."""

from benchmarks import networks
from benchmarks.systems import contest

# On TensorFlow's own servers, and on those of this package, on which it is to
# have what this package has.
_STEPS_PER_EXECUTION = {True: 10, False: 100}


def main() -> None:
  """Trains on a local cluster, in turns."""
  options = contest.arguments()
  steps_per_execution = _STEPS_PER_EXECUTION[options.stock]
  with contest.cluster_of(options) as (strategy, watch):
    import tf_keras

    with strategy.scope():
      model = networks.keras_network(options.network, tf_keras)
      model.compile(
        tf_keras.optimizers.SGD(0.01, momentum=0.9),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=steps_per_execution,
      )
    data = tf_keras.utils.experimental.DatasetCreator(
      lambda context: networks.dataset(options.batch)
    )
    callbacks = [watch.callback(tf_keras)]

    def run(steps):
      # As many of them for each worker.
      granule = steps_per_execution * options.workers
      steps = granule * max(1, steps // granule)
      model.fit(data, steps_per_epoch=steps, verbose=0, callbacks=callbacks)
      return watch.turn(steps)

    contest.take_turns(run)


if __name__ == "__main__":
  main()
