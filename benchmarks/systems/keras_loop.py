"""Keras 3's own SGD in a loop of one's own, as TensorFlow's guide shows it.

It loses updates: Keras 3's `assign_add` reads and writes without a lock.
"""

from benchmarks import networks
from benchmarks.systems import contest

_STEPS_PER_DISPATCH = 10


def main() -> None:
  """Trains on a local cluster, in turns."""
  options = contest.arguments()
  with contest.cluster_of(options) as (strategy, watch):
    import keras
    import tensorflow as tf

    with strategy.scope():
      model = networks.keras_network(options.network, keras)
      optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
      optimizer.build(model.trainable_variables)
    loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def dataset_fn():
      return networks.dataset(options.batch)

    def train_step(data):
      x, y = data
      with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
      gradients = tape.gradient(loss, model.trainable_variables)
      optimizer.apply(gradients, model.trainable_variables)

    @tf.function
    def dispatch(iterator):
      for _ in tf.range(_STEPS_PER_DISPATCH):
        strategy.run(train_step, args=(next(iterator),))

    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    iterator = iter(coordinator.create_per_worker_dataset(dataset_fn))

    def run(steps):
      dispatches = max(1, steps // _STEPS_PER_DISPATCH)
      watch.start()
      for _ in range(dispatches):
        coordinator.schedule(dispatch, args=(iterator,))
      coordinator.join()
      watch.stop()
      return watch.turn(dispatches * _STEPS_PER_DISPATCH)

    contest.take_turns(run)


if __name__ == "__main__":
  main()
