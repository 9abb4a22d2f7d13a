"""What the predictors that are Keras LSTMs have in common."""

import keras

from lc_asgd_tf import arguments, errors, replicas
from lc_asgd_tf.predictors import journal


class RecurrentPredictor:
  """An LSTM over a window of reports, its head, and its Adam.

  Args:
    units: size of the LSTM.
    window: reports per input.
    learning_rate: Adam's.
    batch_size: how many reports one training step takes together.
    seed: of the network's initial weights.

  Raises:
    TypeError: if a number of something is no int.
    ValueError: if it is less than 1, or the learning rate is not positive.
  """

  def __init__(
    self,
    units: int,
    window: int,
    learning_rate: float = 2e-3,
    batch_size: int = 32,
    seed: int = 0,
  ) -> None:
    self.units = arguments.check_int("units", units, least=1)
    self.window = arguments.check_int("window", window, least=1)
    # Keras takes no integer.
    self.learning_rate = arguments.check_positive(
      "learning_rate", learning_rate
    )
    self.batch_size = arguments.check_int("batch_size", batch_size, least=1)
    self.seed = seed

  def _build_network(
    self,
    num_workers: int,
    features: int,
    outputs: int,
    head_initializer: str | keras.initializers.Initializer,
    name: str,
  ) -> None:
    """Creates the network and Adam's state, on the current device."""
    capacity = journal.capacity_for(num_workers)
    if self.window >= capacity:
      raise errors.UserError(
        f"window={self.window} is more than the server remembers, which is the "
        f"latest {capacity} reports of {num_workers} workers: choose a smaller "
        "one."
      )
    self.network = keras.Sequential(
      [
        keras.Input((self.window, features)),
        keras.layers.LSTM(
          self.units,
          kernel_initializer=keras.initializers.GlorotUniform(self.seed),
          recurrent_initializer=keras.initializers.Orthogonal(seed=self.seed),
          unit_forget_bias=True,
          seed=self.seed,
          # Whatever policy the user's model has.
          dtype="float32",
        ),
        keras.layers.Dense(
          outputs, kernel_initializer=head_initializer, dtype="float32"
        ),
      ],
      name=name,
    )
    self._optimizer = keras.optimizers.Adam(
      self.learning_rate, global_clipnorm=1.0
    )
    replicas.sum_over_none(self._optimizer)
    self._optimizer.build(self.network.trainable_variables)

  @property
  def variables(self) -> list[keras.Variable]:
    """The network's weights, then Adam's state."""
    return self.network.variables + self._optimizer.variables

  def get_config(self) -> dict[str, object]:
    """Returns the constructor's arguments."""
    return {
      "units": self.units,
      "window": self.window,
      "learning_rate": self.learning_rate,
      "batch_size": self.batch_size,
      "seed": self.seed,
    }

  @classmethod
  def from_config(cls, config: dict[str, object]) -> "RecurrentPredictor":
    """Returns the predictor that `get_config` described, not built."""
    return cls(**config)
