"""The recurrent layer that the predictors share."""

import keras


def lstm(units: int, seed: int) -> keras.layers.LSTM:
  """Returns an LSTM with forget bias 1 and seeded initial weights."""
  return keras.layers.LSTM(
    units,
    kernel_initializer=keras.initializers.GlorotUniform(seed),
    recurrent_initializer=keras.initializers.Orthogonal(seed=seed),
    unit_forget_bias=True,
    seed=seed,
    # Whatever policy the user's model has.
    dtype="float32",
  )
