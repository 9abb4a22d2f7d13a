"""What delays leave of an optimizer's momentum, and how far steps go then."""

import tensorflow as tf

from lc_asgd_tf.compensation import losses

# What is left of 1 - M (1 - beta) by rounding, where it should be nothing.
_ROUNDING = 1e-9


def explicit_momentum(momentum: float, num_workers: float) -> float:
  """Returns max(0, 1 - M (1 - beta)), an optimizer's momentum with M workers.

  Late gradients are a momentum of their own: with delays that are exponential,
  that of M workers is 1 - 1 / M. Where both are in full, a step goes on long
  after the gradient that it follows, and the updates on their way promise as
  much more of the loss. An optimizer remembers for about 1 / (1 - beta)
  updates, and here for an M-th of that, but for one at least.

  Source: Mitliagkas, Zhang, Hadjis, Re, "Asynchrony begets momentum, with an
  application to deep learning", 2016, arXiv 1605.09774, for the momentum of
  delays; the formula is this project's own.

  Args:
    momentum: beta, in [0, 1], that is right for one worker.
    num_workers: M, updates on their way at a time; fewer than 1 count as 1.
  """
  if num_workers <= 1:
    return momentum  # To the last bit.
  left = 1.0 - num_workers * (1.0 - momentum)
  return left if left > _ROUNDING else 0.0


def longest_step(loss: tf.Tensor, squared_norm: tf.Tensor) -> tf.Tensor:
  """Returns 4 l / |g|^2, the step beyond which descent diverges, shape=().

  On a quadratic whose minimum is zero, of curvature h, |g|^2 = 2 h l, and this
  is 2 / h: gradient descent with longer steps diverges, on time as it may be.
  With momentum a gradient may move the weights farther in all, up to
  2 (1 + beta) / (1 - beta) / h, since it does so little by little. Longer steps
  in its place do so at once.

  Source: this project's own; not in the paper's abstract. Steps by the loss and
  |g|^2 are those of Polyak, "Introduction to Optimization", 1987.

  Args:
    loss: l of a push, shape=(). Where it is not bounded (see `losses`), the
      step may have any length.
    squared_norm: |g|^2 of it, shape=().
  """
  known = tf.math.is_finite(squared_norm) & losses.is_bounded(loss)
  longest = 4.0 * losses.floored(loss) / (squared_norm + losses.TINY)
  return tf.where(known, longest, float("inf"))
