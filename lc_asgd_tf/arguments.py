"""Checks of constructors' arguments, which name the one that is wrong."""

import math
import operator
from collections.abc import Callable


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
  return _check_float(
    name, value, lambda x: 0 < x < math.inf, "a positive number"
  )


def check_not_negative(name: str, value: float) -> float:
  """Returns the value as a float.

  Raises:
    ValueError: if it is no number, not finite, or negative.
  """
  return _check_float(name, value, lambda x: 0 <= x < math.inf, ">= 0")


def check_decay(name: str, value: float) -> float:
  """Returns the value as a float.

  Raises:
    ValueError: if it is no number from 0 to less than 1.
  """
  return _check_float(name, value, lambda x: 0 <= x < 1, "in [0, 1)")


def check_fraction(name: str, value: float) -> float:
  """Returns the value as a float.

  Raises:
    ValueError: if it is no number from 0 to 1.
  """
  return _check_float(name, value, lambda x: 0 <= x <= 1, "in [0, 1]")


def _check_float(
  name: str, value: float, is_allowed: Callable[[float], bool], allowed: str
) -> float:
  try:
    number = float(value)
  except (TypeError, ValueError):
    number = math.nan
  if not is_allowed(number):
    raise ValueError(f"{name} must be {allowed}, got {value!r}.")
  return number
