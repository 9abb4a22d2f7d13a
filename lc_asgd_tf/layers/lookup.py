"""Where sparse embeddings get their rows from while a model is computed."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

# From a table and ids, int32 of any shape, to its rows, shape=(*ids, width).
Lookup = Callable[[keras.Variable, tf.Tensor], tf.Tensor]

_current: contextvars.ContextVar[Lookup | None] = contextvars.ContextVar(
  "lookup", default=None
)


@contextlib.contextmanager
def looking_up(lookup: Lookup) -> Iterator[None]:
  """Lets `lookup` answer for the tables of layers that are called inside."""
  token = _current.set(lookup)
  try:
    yield
  finally:
    _current.reset(token)


def current() -> Lookup | None:
  """Returns who looks rows up; None where layers read their own tables."""
  return _current.get()
