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
      getattr(lc_asgd_tf, options.rule)(0.1, momentum=0.9),
      keras.losses.BinaryCrossentropy(from_logits=True),
    )
    trainer = lc_asgd_tf.AsyncTrainer(model, strategy)
    callbacks = [
      keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: watch.start(),
        # The last dispatch's: the copy at the end of the epoch is not a step's.
        on_train_batch_end=lambda batch, logs: watch.stop(),
      )
    ]

    def run(steps):
      trainer.fit(
        lambda: _dataset(options.rows, options.batch),
        steps_per_epoch=steps,
        verbose=0,
        callbacks=callbacks,
      )
      return watch.turn(steps)

    contest.take_turns(run)


if __name__ == "__main__":
  main()
