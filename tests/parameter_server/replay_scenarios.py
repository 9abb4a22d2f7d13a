"""What real workers pushed, pushed again one by one, without processes."""

import functools

import keras
import numpy as np
import tensorflow as tf

import lc_asgd_tf
from lc_asgd_tf import compensation, server
from lc_asgd_tf.predictors import journal
from tests.parameter_server import scenarios

_EXAMPLES, _FEATURES, _CLASSES = 8, 5, 3


def _model():
  keras.utils.set_random_seed(0)
  return keras.Sequential(
    [
      keras.Input((_FEATURES,)),
      keras.layers.Dense(8, activation="tanh"),
      keras.layers.Dense(_CLASSES),
    ]
  )


def _loss():
  return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _batches(worker):
  """Returns batches that only this worker has."""

  def batch(number):
    seed = tf.stack([worker, number])
    x = tf.random.stateless_normal([_EXAMPLES, _FEATURES], seed)
    return x, tf.argmax(x[:, :_CLASSES], axis=-1)

  return tf.data.Dataset.range(1_000_000).map(batch)


def replayed(strategy):
  """One rule that reads no snapshot, and one that does, with momentum."""
  rules = {
    "asgd": compensation.Uncompensated(),
    # What predictors learn depends on when they do.
    "lc_asgd": compensation.LossCompensated(ratio=0.5, brake=0.0, window=False),
  }
  results = {}
  for name, rule in rules.items():
    model = _model()
    optimizer = lc_asgd_tf.AsyncOptimizer(
      keras.optimizers.SGD(0.05, momentum=0.9), rule
    )
    trainer = scenarios.new_trainer(model, strategy, optimizer, loss=_loss())
    trainer.fit(
      lambda context: _batches(context.input_pipeline_id),
      steps_per_epoch=scenarios.STEPS,
      verbose=0,
    )
    rows, pushes = trainer.reports()
    reports = [journal.Report(*row) for row in rows[:pushes]]
    with tf.device("/CPU:0"):
      losses, staleness, weights = _replay(
        reports, optimizer, trainer.num_workers
      )
    results[name] = {
      "staleness": [[report.staleness for report in reports], staleness],
      "losses": [[report.loss for report in reports], losses],
      "weights": [
        np.concatenate([np.ravel(w) for w in each]).tolist()
        for each in (model.get_weights(), weights)
      ],
    }
  return results


def _replay(reports, optimizer, num_workers):
  """Returns losses, staleness and the last weights.

  Args:
    reports: of all pushes since the beginning, in order. They say which version
      a worker had pulled: where that is not of its previous push, it pulled
      once more, as in the beginning of a dispatch.
    optimizer: whose rule and inner optimizer to take.
    num_workers: M.
  """
  model = _model()
  host = server.Server(
    [model.trainable_variables],
    [optimizer.new_inner_optimizer(num_workers)],
    optimizer.compensation,
    num_workers,
    jit_compile=False,
  )
  differentiate = tf.function(functools.partial(_differentiate, model))
  pulls, latest = {}, {}
  for number, report in enumerate(reports):
    if latest.get(report.worker) != report.version:
      pulls.setdefault(report.version, []).append(report.worker)
    latest[report.worker] = number + 1
  batches = [iter(_batches(worker)) for worker in range(num_workers)]
  losses, staleness, replies = [], [], {}
  for number, report in enumerate(reports):
    for worker in pulls.get(number, ()):
      replies[worker] = host.pull(tf.constant(int(worker), tf.int64))
    worker = int(report.worker)
    (weights,), version, _ = host.open_replies(replies[worker])
    loss, gradients = differentiate(weights, *next(batches[worker]))
    losses.append(float(loss))
    staleness.append(number - int(version))
    replies[worker] = host.push(
      tf.constant(worker, tf.int64),
      host.messages([gradients], loss),
      replies[worker],
    )
  return losses, staleness, [w.numpy() for w in host.shards[0].weights]


def _differentiate(model, weights, x, y):
  with tf.GradientTape() as tape:
    tape.watch(weights)
    outputs, _ = model.stateless_call(weights, [], x)
    loss = _loss()(y, outputs)
  return loss, tape.gradient(loss, weights)
