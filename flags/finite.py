"""Which numbers flags refuse that bounds let pass."""

import math

from absl import flags


def check(name: str) -> None:
  """Has a flag refuse NaN and infinity."""
  flags.register_validator(
    name,
    lambda number: number is None or math.isfinite(number),
    message="must be a finite number",
  )
