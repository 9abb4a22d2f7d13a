"""What flags that name a folder or a file refuse."""

from absl import flags


def check(name: str) -> None:
  """Has a flag refuse an empty path, which would be the current directory.

  It is what a shell makes of a variable that is not set.
  """
  flags.register_validator(
    name, lambda path: path != "", message="must not be empty"
  )
