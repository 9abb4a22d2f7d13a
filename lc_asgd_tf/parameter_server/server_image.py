"""The server's state on the coordinator, for checkpoints and the model."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from lc_asgd_tf import server
from lc_asgd_tf.parameter_server import packed_reader

# How a checkpoint names the value of a variable.
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_DAMAGE = (
  IndexError,
  tf.errors.OpError,
  tf.errors.DataLossError,
  tf.errors.OutOfRangeError,
)


class ServerImage:
  """Reads all variables of a server in one packed transfer per ps task.

  Checkpoints are written from a copy on the coordinator: the ps tasks need not
  see its file system, and no function is traced per checkpoint, as TensorFlow
  does for variables on several tasks.

  Args:
    remote: the server.
  """

  def __init__(self, remote: server.Server) -> None:
    self._variables = remote.variables
    self._reader = packed_reader.PackedReader(
      [v for variables in self._variables.values() for v in variables]
    )
    self._read = tf.function(
      self._reader.read, autograph=False
    ).get_concrete_function()
    self._copies = None

  def fetch(self) -> list[tf.Tensor]:
    """Returns the server's state as it is now, one vector per ps task."""
    return [tf.identity(vector) for vector in self._read()]

  def unpack(self, state: Sequence[tf.Tensor]) -> dict[int, tf.Tensor]:
    """Returns the value of every variable, by the variable's id.

    Args:
      state: what `fetch` returned.
    """
    return self._reader.unpack(state)

  def checkpoint(self) -> tf.train.Checkpoint:
    """Returns a checkpoint of the server as it is now."""
    values = self.unpack(self.fetch())
    if self._copies is None:
      self._copies = {
        name: [tf.Variable(values[id(v)]) for v in variables]
        for name, variables in self._variables.items()
      }
      self._checkpoint = tf.train.Checkpoint(**self._copies)
    for variable, copy in self._pairs():
      copy.assign(values[id(variable)])
    return self._checkpoint

  def restore(self, path: str) -> None:
    """Makes the state in a checkpoint the server's.

    Raises:
      ValueError: if the checkpoint is of other variables; nothing is changed.
      tf.errors.NotFoundError: if there is no checkpoint.
      tf.errors.DataLossError: if it cannot be read; nothing is changed.
    """
    checkpoint = self.checkpoint()
    try:
      if not self._fits(path):
        raise ValueError(f"The checkpoint {path} is of other variables.")
      checkpoint.restore(path).assert_consumed()
    except (IndexError, tf.errors.OpError) as error:
      # TensorFlow has no class of its own for most of what can be wrong with a
      # file; what has one, such as a file system that is away, is no damage.
      if type(error) not in _DAMAGE:
        raise
      raise tf.errors.DataLossError(None, None, str(error)) from error
    for variable, copy in self._pairs():
      variable.assign(copy)

  def _fits(self, path: str) -> bool:
    reader = tf.train.load_checkpoint(path)
    dtypes = reader.get_variable_to_dtype_map()
    found = {
      name.removesuffix(_VALUE): (tuple(shape), dtypes[name])
      for name, shape in reader.get_variable_to_shape_map().items()
      if name.endswith(_VALUE) and not name.startswith("save_counter/")
    }
    expected = {
      f"{name}/{i}": (tuple(variable.shape), variable.value.dtype)
      for name, variables in self._variables.items()
      for i, variable in enumerate(variables)
    }
    return found == expected

  def _pairs(self) -> list[tuple[keras.Variable, tf.Variable]]:
    return [
      pair
      for name, variables in self._variables.items()
      for pair in zip(variables, self._copies[name], strict=True)
    ]
