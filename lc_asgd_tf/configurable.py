"""Objects that a Keras config describes."""

import inspect


class Configurable:
  """What can be made again from its constructor's arguments, as Keras does.

  A subclass whose constructor has arguments of its own overrides `get_config`.
  One that does not is refused when its config is asked for, lest it come back
  with other arguments.
  """

  def __init_subclass__(cls, **kwargs) -> None:
    super().__init_subclass__(**kwargs)
    if "__init__" in vars(cls) and "get_config" not in vars(cls):
      own = sorted(
        _arguments(cls.__init__) - _arguments(super(cls, cls).__init__)
      )
      if own:
        cls.get_config = _refusal(cls.__name__, own)

  def get_config(self) -> dict[str, object]:
    """Returns the constructor's arguments.

    Raises:
      NotImplementedError: if the class has to override it, and does not.
    """
    return {}

  @classmethod
  def from_config(cls, config: dict[str, object]) -> "Configurable":
    """Returns the object that `get_config` described."""
    return cls(**config)


def _arguments(function) -> set[str]:
  """Returns the names of a function's arguments, without *args and **kwargs."""
  return {
    name
    for name, argument in inspect.signature(function).parameters.items()
    if argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
  }


def _refusal(name, arguments):
  def get_config(self):
    raise NotImplementedError(
      f"{name} must override get_config: its constructor has arguments that "
      f"no config of its base class knows: {', '.join(arguments)}."
    )

  return get_config
