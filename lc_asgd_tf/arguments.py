"""Checks of constructors' arguments, which name the one that is wrong."""

import math
import operator


def check_int(name: str, value: int, least: int) -> int:
  """Returns the value as an int.

  Raises:
    TypeError: if it is none.
    ValueError: if it is less than the least that there may be.
  """
  try:
    value = operator.index(value)
  except TypeError:
    raise TypeError(f"{name} must be an int, got {value!r}.") from None
  if value < least:
    raise ValueError(f"{name} must be at least {least}, got {value}.")
  return value


def check_positive(name: str, value: float) -> float:
  """Returns the value as a float.

  Raises:
    ValueError: if it is no number, not finite, or not positive.
  """
  try:
    number = float(value)
  except (TypeError, ValueError):
    number = math.nan
  if not 0 < number < math.inf:
    raise ValueError(f"{name} must be a positive number, got {value!r}.")
  return number
