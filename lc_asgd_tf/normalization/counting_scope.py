"""A scope that notices statistics which are updated more than once."""

import collections

import keras

from lc_asgd_tf import errors


class CountingScope(keras.StatelessScope):
  """A `keras.StatelessScope` that counts the updates of each variable."""

  def __init__(self, *args, **kwargs) -> None:
    super().__init__(*args, **kwargs)
    self._updates = collections.Counter()

  def add_update(self, update) -> None:
    """Counts the update, and does what Keras does with it."""
    self._updates[id(update[0])] += 1
    super().add_update(update)

  def updates(self, variable: keras.Variable) -> int:
    """Returns how often the variable was updated."""
    return self._updates[id(variable)]

  def check_single_updates(self, variables: list[keras.Variable]) -> None:
    """Checks that none of the variables was updated more than once.

    Raises:
      UserError: if one was, which no merge of contributions can undo.
    """
    for variable in variables:
      if self.updates(variable) > 1:
        raise errors.UserError(
          f"The moving statistic {variable.path} is updated more than once per "
          "step, which cannot be merged on a server: use one "
          "BatchNormalization layer per call."
        )
