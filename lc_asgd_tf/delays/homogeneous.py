"""Equal workers, whose steps vary."""

import keras

from lc_asgd_tf import arguments
from lc_asgd_tf.delays import delays


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class Homogeneous(delays.Delays):
  """Gamma delays of mean 1, the same for all workers.

  Source of the Gamma model: Ali et al., "Task Execution Time Modeling for
  Heterogeneous Computing Systems", HCW 2000.

  Args:
    variation: coefficient of variation of a step's delay, > 0.
    seed: of the draws.
  """

  def __init__(self, variation: float = 0.1, seed: int = 0) -> None:
    super().__init__(seed)
    self.variation = arguments.check_positive("variation", variation)

  def _draw(self, rng, num_workers):
    return delays.gamma(rng, self.variation, (num_workers, delays.LENGTH))

  def get_config(self):
    """Returns the constructor's arguments."""
    return super().get_config() | {"variation": self.variation}
