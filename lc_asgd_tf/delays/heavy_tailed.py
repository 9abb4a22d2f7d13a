"""Equal workers with stragglers now and then."""

import keras

from lc_asgd_tf import arguments
from lc_asgd_tf.delays import delays


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class HeavyTailed(delays.Delays):
  """Pareto delays of mean 1: most steps are quick, a few take very long.

      P(delay > x) = (x_min / x)^tail,    x_min = (tail - 1) / tail

  Args:
    tail: the Pareto index, > 1; the smaller, the heavier the tail. The variance
      is infinite up to 2.
    seed: of the draws.
  """

  def __init__(self, tail: float = 1.5, seed: int = 0) -> None:
    super().__init__(seed)
    self.tail = arguments.check_positive("tail", tail)
    if self.tail <= 1:
      raise ValueError(f"tail must be > 1 for a finite mean, got {tail}.")

  def _draw(self, rng, num_workers):
    smallest = (self.tail - 1) / self.tail
    size = (num_workers, delays.LENGTH)
    return smallest * (1 + rng.pareto(self.tail, size))

  def get_config(self):
    """Returns the constructor's arguments."""
    return super().get_config() | {"tail": self.tail}
