"""This package on a model whose weights are one large table."""

import argparse

from benchmarks.systems import contest

# Ids per example, and features per id.
_LENGTH = 20
_WIDTH = 64
_EXAMPLES = 6400


def _dataset(rows, batch):
  import numpy as np
  import tensorflow as tf

  generator = np.random.default_rng(0)
  ids = generator.integers(0, rows, (_EXAMPLES, _LENGTH), np.int32)
  labels = (ids.sum(axis=1) % 2).astype(np.float32)
  data = tf.data.Dataset.from_tensor_slices((ids, labels))
  return data.repeat().batch(batch, drop_remainder=True)


def main() -> None:
  """Trains on a local cluster, in turns."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--layer", choices=("dense", "sparse"), required=True)
  parser.add_argument("--rows", type=int, required=True)
  parser.add_argument("--rule", required=True)
  parser.add_argument("--workers", type=int, required=True)
  parser.add_argument("--batch", type=int, required=True)
  options = parser.parse_args()
  with contest.local_cluster(options.workers) as (strategy, watch):
    import keras

    import lc_asgd_tf
    from benchmarks import rules

    layer = {
      "dense": keras.layers.Embedding,
      "sparse": lc_asgd_tf.layers.SparseEmbedding,
    }[options.layer]
    model = keras.Sequential(
      [
        layer(options.rows, _WIDTH),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(1),
      ]
    )
    model.compile(
      rules.create(options.rule, 0.1),
      keras.losses.BinaryCrossentropy(from_logits=True),
    )
    trainer = lc_asgd_tf.AsyncTrainer(model, strategy)

    def run(steps):
      # From the end of the first dispatch to that of the last: neither the copy
      # to the servers, which goes on while workers begin, nor the one back is a
      # step's. By then others have done a part of theirs, as the server knows.
      pushes = []

      def take_time(batch, logs):
        del batch, logs
        _, version = trainer.reports()
        (watch.stop if pushes else watch.start)()
        pushes.append(version)

      trainer.fit(
        lambda: _dataset(options.rows, options.batch),
        steps_per_epoch=steps,
        verbose=0,
        callbacks=[
          keras.callbacks.LambdaCallback(on_train_batch_end=take_time)
        ],
      )
      return watch.turn(pushes[-1] - pushes[0])

    contest.take_turns(run)


if __name__ == "__main__":
  main()
