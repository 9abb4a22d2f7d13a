"""How long simulated workers take for a step."""

import numpy as np

from lc_asgd_tf import arguments, configurable

# After so many steps of one worker, drawn delays repeat.
LENGTH = 4096


class Delays(configurable.Configurable):
  """The delay of every step of every worker, known beforehand.

  Delays are in virtual seconds, in which the mean over all workers is about 1,
  but for those of a `Trace`, which are as they were recorded.
  They are drawn by NumPy on the host, so that the order of events depends on
  the seed alone, not on the device or on the compiler.

  Args:
    seed: of the draws.

  Raises:
    TypeError: if the seed is no int.
    ValueError: if it is negative.
  """

  def __init__(self, seed: int = 0) -> None:
    self.seed = arguments.check_int("seed", seed, least=0)

  def table(self, num_workers: int) -> np.ndarray:
    """Returns delays, shape=(M, k), float64, all > 0; k is LENGTH or more.

    Row m has the delays of worker m in order; they repeat after the last.
    """
    return self._draw(np.random.default_rng(self.seed), num_workers)

  def rests(self, num_workers: int) -> np.ndarray | None:
    """Returns how long a worker rests before it pulls, shape as `table`.

    None, the default, if no worker ever does. Rest m, n comes before the pull
    of worker m's step n; its delay begins afterwards.
    """
    del num_workers
    return None

  def _draw(self, rng: np.random.Generator, num_workers: int) -> np.ndarray:
    raise NotImplementedError

  def get_config(self) -> dict[str, object]:
    """Returns the constructor's arguments."""
    return {"seed": self.seed}


def gamma(
  rng: np.random.Generator, variation: float, size: int | tuple[int, ...]
) -> np.ndarray:
  """Returns Gamma draws of mean 1 and this coefficient of variation."""
  shape = variation**-2
  # A draw may underflow to 0 where the variation is large.
  return np.maximum(rng.gamma(shape, 1 / shape, size), 1e-9)
