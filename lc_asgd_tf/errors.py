"""Errors that a user can put right."""


class UserError(ValueError):
  """Bad input: one line that names what is wrong and what to do about it.

  The command-line programs print the message alone and exit with status 2;
  from Python it is an ordinary `ValueError`.
  """


class DamagedError(UserError):
  """A file that is there, but not as it was written."""
