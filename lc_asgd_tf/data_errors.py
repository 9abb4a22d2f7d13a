"""What TensorFlow raises where data cannot be read, in a few words."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from lc_asgd_tf import errors


def reason(error: BaseException) -> str | None:
  """Returns why files could not be read; None if that is not the matter."""
  is_missing = (
    isinstance(error, tf.errors.NotFoundError)
    and "No such file" in error.message
  )
  if not is_missing and not isinstance(error, tf.errors.DataLossError):
    return None
  # Behind where it happened, and before what was being computed; of several
  # errors at once, which are numbered, the first.
  text = error.message.partition("\n\t [[")[0].splitlines()[-1]
  return re.sub(r"^\s*\(\d+\) [A-Z_]+:\s*", "", text)


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
  """Raises a `UserError` in place of TensorFlow's where data cannot be read.

  Args:
    what: what is read there.
  """
  try:
    yield
  except tf.errors.OpError as error:
    if why := reason(error):
      raise errors.UserError(f"cannot read {what}: {why}.") from error
    raise
