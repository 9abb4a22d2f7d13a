"""Weights that the loss does not depend on, which Keras leaves alone."""

import keras
import tensorflow as tf

from lc_asgd_tf.server import flattening


def matter(inner_optimizer: keras.optimizers.Optimizer) -> bool:
  """Returns whether a gradient of zero may move a weight."""
  kind = type(inner_optimizer)
  # Of these Ftrl alone moves a weight that has no gradient, if none decays.
  still = kind in flattening.ELEMENTWISE and kind is not keras.optimizers.Ftrl
  return not still or bool(inner_optimizer.weight_decay)


def find(model: keras.Model, element_spec) -> list[keras.Variable]:
  """Returns the trainable variables that have no gradient, and warns of them.

  It traces the train step, and runs nothing.

  Args:
    model: built and compiled.
    element_spec: of a batch.

  Raises:
    ValueError: Keras's own, if no variable has a gradient.
  """
  variables = model.trainable_variables
  found = []

  def trace(data):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    with tf.GradientTape() as tape:
      y_pred = model(x, training=True)
      loss = model._compute_loss(
        x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True
      )
    gradients = tape.gradient(loss, [v.value for v in variables])
    model.optimizer._filter_empty_gradients(gradients, variables)
    found.extend(
      variable
      for variable, gradient in zip(variables, gradients, strict=True)
      if gradient is None
    )

  tf.function(trace, autograph=False).get_concrete_function(element_spec)
  return found
