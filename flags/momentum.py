"""What a momentum may be, wherever there is a flag for one."""

from absl import flags


def check(name: str) -> None:
  """Has a flag refuse what is not in [0, 1)."""
  flags.register_validator(
    name,
    lambda momentum: momentum is None or 0 <= momentum < 1,
    message="must be at least 0 and less than 1",
  )
