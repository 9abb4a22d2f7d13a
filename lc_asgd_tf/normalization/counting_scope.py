"""A scope that notices which variables are updated, and how often."""

from collections.abc import Iterable

import keras

from lc_asgd_tf import errors


class CountingScope(keras.StatelessScope):
  """A `keras.StatelessScope` that counts the updates of each variable."""

  def __init__(self, *args, **kwargs) -> None:
    super().__init__(*args, **kwargs)
    # One variable per update.
    self._updated = []

  def add_update(self, update) -> None:
    """Counts the update, and does what Keras does with it."""
    self._updated.append(update[0])
    super().add_update(update)

  def updates(self, variable: keras.Variable) -> int:
    """Returns how often the variable was updated."""
    return sum(updated is variable for updated in self._updated)

  def check_only_updates(self, variables: Iterable[keras.Variable]) -> None:
    """Checks that no other variable was updated.

    Raises:
      UserError: if one was, of which a server would never hear.
    """
    known = {id(variable) for variable in variables}
    for variable in self._updated:
      if id(variable) not in known:
        raise errors.UserError(
          f"The forward pass assigns {variable.path}, as SpectralNormalization "
          "and stateful recurrent layers do: workers can only change their "
          "layers' non-trainable weights. Use other layers on a cluster."
        )

  def check_single_updates(self, variables: list[keras.Variable]) -> None:
    """Checks that none of the variables was updated more than once.

    Raises:
      UserError: if one was, which no merge of contributions can undo.
    """
    for variable in variables:
      if self.updates(variable) > 1:
        raise errors.UserError(
          f"The moving statistic {variable.path} is updated more than once per "
          "step, which cannot be merged: use one BatchNormalization layer per "
          "call, and none in TimeDistributed."
        )
