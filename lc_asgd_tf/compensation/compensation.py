"""What every compensation rule provides, and what it is told of a push."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from lc_asgd_tf import configurable


class Arrival(NamedTuple):
  """What the server knows of a push when it arrives.

  Attributes:
    staleness: shape=(), float32. tau, in updates, >= 0.
    loss: shape=(), float32. The worker's minibatch loss at its snapshot.
    predicted_change: shape=(), float32. Delta: the predicted loss at the
      server's weights minus the predicted loss at the snapshot; 0 until the
      loss predictor is ready.
    typical_loss: shape=(), float32. An exponential moving average of the
      reported losses (geometric), the scale against which Delta is judged.
    num_workers: M.
    signals: shape=(k,), float32. What the rule remembers from push to push.
  """

  staleness: tf.Tensor
  loss: tf.Tensor
  predicted_change: tf.Tensor
  typical_loss: tf.Tensor
  num_workers: int = 1
  signals: tf.Tensor | None = None


class Compensation(configurable.Configurable):
  """Turns a late gradient g into the u that the inner optimizer receives.

  A rule is a few pure functions of tensors, so that a server can spread the
  variables over several devices: `measure` reads each variable once and
  returns a few sums, the sums are added up over all variables, `coefficients`
  makes scalars of them, `compensate` computes u for one variable, and
  `rate_factor` says at what part of its learning rate the inner optimizer
  takes it, and `explicit_momentum` with which momentum. Rules hold
  configuration and no state.

  Attributes:
    elementwise: whether every element of u depends on the sums and on the same
      element of g, d and MS alone; a server may then keep its weights as one
      vector, which is faster. A class that does not say so itself, whatever its
      base says, is taken not to be.
    uses_displacement: whether the rule reads d = w - w_m, for which the server
      keeps a snapshot per worker.
    uses_prediction: whether the rule reads `Arrival.predicted_change`, for
      which the server hosts a loss predictor.
    measures: whether the rule needs sums over all weights; if not, `measure` is
      never called.
    uses_step_size: whether the rule needs to know how far one update moves the
      weights: the sums then end with the squared norm of the latest step and
      the number of weights.
    worker_momentum: mu of v_m <- mu v_m + g, which the server keeps per worker
      and uses in place of g, looking ahead along all of them in a pull; None
      for no such momentum.
    synchronous: whether all workers wait for each other in every round.
    horizon: "observed" or "predicted": which staleness the prediction looks
      ahead by.
    second_moment_decay: rho of MS <- rho MS + (1 - rho) g*g, which the server
      keeps per variable for the rule; None if the rule reads no MS.
    initial_signals: what the rule remembers before the first push, a few
      numbers that `observe` updates with every push.
  """

  elementwise: bool = False
  uses_displacement: bool = False
  uses_prediction: bool = False
  measures: bool = False
  uses_step_size: bool = False
  worker_momentum: float | None = None
  synchronous: bool = False
  horizon: str = "observed"
  second_moment_decay: float | None = None
  initial_signals: tuple[float, ...] = ()

  def measure(
    self,
    gradient: tf.Tensor,
    displacement: tf.Tensor | None,
    second_moment: tf.Tensor | None,
  ) -> tf.Tensor:
    """Returns this variable's share of the sums, shape=(k,).

    Args:
      gradient: g, taken at the worker's snapshot.
      displacement: d = w - w_m, same shape as g; None unless asked for.
      second_moment: MS, already updated with g; None unless asked for.
    """
    raise NotImplementedError

  def observe(self, sums: tf.Tensor | None, arrival: Arrival) -> tf.Tensor:
    """Returns the signals, updated with this push, shape=(k,), float32.

    Called if there are `initial_signals`. `coefficients` then finds the updated
    ones in its arrival; a push that is not accepted leaves the server's alone.
    """
    raise NotImplementedError

  def coefficients(
    self, sums: tf.Tensor | None, arrival: Arrival
  ) -> Sequence[tf.Tensor]:
    """Returns the scalars that `compensate` needs, each shape=()."""
    del sums, arrival
    return ()

  def accepts(self, sums: tf.Tensor | None) -> tf.Tensor | None:
    """Returns whether the push may change anything, shape=(), bool.

    None accepts every push at no cost. The gradient of a push that is not
    accepted counts as zero.
    """
    del sums
    return None

  def compensate(
    self,
    gradient: tf.Tensor,
    displacement: tf.Tensor | None,
    second_moment: tf.Tensor | None,
    coefficients: Sequence[tf.Tensor],
  ) -> tf.Tensor:
    """Returns u for one variable, same shape and dtype as `gradient`."""
    raise NotImplementedError

  def rate_factor(self, coefficients: Sequence[tf.Tensor]) -> tf.Tensor | None:
    """Returns what the learning rate is multiplied by for this push, shape=().

    None for 1. Unlike a factor of u, it means the same to every inner
    optimizer.
    """
    del coefficients
    return None

  def explicit_momentum(self, momentum: float, num_workers: float) -> float:
    """Returns the momentum that SGD is to have in place of its own.

    What a gradient moves the weights by in all stays the same, as far as there
    is no `longest_step`.

    Args:
      momentum: beta of `keras.optimizers.SGD`, not 0.
      num_workers: M; where the inner optimizer makes one update of k pushes,
        M / k.
    """
    del num_workers
    return momentum

  def longest_step(self, coefficients: Sequence[tf.Tensor]) -> tf.Tensor | None:
    """Returns how long less momentum may make the steps of a push, shape=().

    What u is multiplied by in all, lr / (1 - beta), is no larger then, unless
    it is without longer steps, too. None for no bound.
    """
    del coefficients
    return None


def second_moment_update(
  gradient: tf.Tensor, second_moment: tf.Tensor, decay: float
) -> tf.Tensor:
  """Returns MS <- rho MS + (1 - rho) g*g.

  Source: Zheng et al., arXiv 1609.08326, section 6.
  """
  return decay * second_moment + (1.0 - decay) * gradient * gradient
