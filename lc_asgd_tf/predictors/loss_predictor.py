"""What every loss predictor provides."""

import keras
import tensorflow as tf

from lc_asgd_tf import configurable
from lc_asgd_tf.predictors import forecast as forecast_lib


class LossPredictor(configurable.Configurable):
  """Learns the loss as a function of the server's version, from reports.

  A predictor owns its variables, which `build` creates on the current device.
  `follow`, `learn` and `forecast` are traced by the host, which decides where
  and when they run; all see the whole journal, so that a predictor that lags
  behind the pushes still trains on what was known when each worker pulled.
  `follow` and `forecast` become part of the compiled push: XLA must be able to
  compile them, and `Forecast.drawn` must be the version up to which reports
  were taken note of, rather than that of the call.

  Attributes:
    batch_size: how many reports one call of `learn` can take. A simulation
      sets it to how many come between two calls.
  """

  batch_size: int = 1

  def build(self, num_workers: int) -> None:
    """Creates the variables.

    Args:
      num_workers: M, which sets the unit of time: M pushes.
    """
    raise NotImplementedError

  def learn(self, rows: tf.Tensor, first: tf.Tensor, last: tf.Tensor) -> None:
    """Trains on the reports [first, last), at most the last `batch_size`.

    Args:
      rows: the journal's ring, shape=(capacity, fields).
      first: shape=(), int64.
      last: shape=(), int64.
    """
    raise NotImplementedError

  def follow(self, rows: tf.Tensor, first: tf.Tensor, last: tf.Tensor) -> None:
    """Takes note of the reports [first, last), as far as that costs little.

    A host may call it with every push, and `learn` less often and beside it,
    which is then told of the same reports again.

    Args:
      rows: the journal's ring, shape=(capacity, fields).
      first: shape=(), int64.
      last: shape=(), int64.
    """

  def forecast(self, rows: tf.Tensor, now: tf.Tensor) -> forecast_lib.Forecast:
    """Returns the forecast from the reports [0, now), which costs little."""
    raise NotImplementedError

  @property
  def variables(self) -> list[keras.Variable]:
    """All state, in a fixed order."""
    raise NotImplementedError

  def copy(self) -> "LossPredictor":
    """Returns a predictor of the same configuration, not built."""
    return type(self).from_config(self.get_config())
