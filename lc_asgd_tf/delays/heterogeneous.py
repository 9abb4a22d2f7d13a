"""Workers of different speeds, whose steps vary."""

import keras

from lc_asgd_tf import arguments
from lc_asgd_tf.delays import delays


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class Heterogeneous(delays.Delays):
  """Gamma delays, whose mean is itself a Gamma draw per worker.

  Source of the Gamma model: Ali et al., "Task Execution Time Modeling for
  Heterogeneous Computing Systems", HCW 2000.

  Args:
    spread: coefficient of variation of the workers' mean delays, > 0.
    variation: coefficient of variation of a step's delay, > 0.
    seed: of the draws.
  """

  def __init__(
    self, spread: float = 0.6, variation: float = 0.1, seed: int = 0
  ) -> None:
    super().__init__(seed)
    self.spread = arguments.check_positive("spread", spread)
    self.variation = arguments.check_positive("variation", variation)

  def _draw(self, rng, num_workers):
    means = delays.gamma(rng, self.spread, (num_workers, 1))
    steps = delays.gamma(rng, self.variation, (num_workers, delays.LENGTH))
    return means * steps

  def get_config(self):
    """Returns the constructor's arguments."""
    return super().get_config() | {
      "spread": self.spread,
      "variation": self.variation,
    }
