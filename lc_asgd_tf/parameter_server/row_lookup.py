"""How a worker's step reads tables of which it holds no copy."""

import keras
import tensorflow as tf

from lc_asgd_tf import errors
from lc_asgd_tf.parameter_server import remote_server


class RowLookup:
  """Pulls the rows of one step's batch, and pushes their gradients.

  Args:
    remote: the server.
    tape: records the step.

  Attributes:
    rows: w_m of each pulled table, shape=(n, width), in the order of the pulls.
    tables: the variable that each of them is of.
  """

  def __init__(
    self, remote: remote_server.RemoteServer, tape: tf.GradientTape
  ) -> None:
    self._remote = remote
    self._tape = tape
    self._indices = {id(v): k for k, v in enumerate(remote.tables)}
    # The ids that each tensor in `rows` belongs to, by the index of its table.
    self._ids: list[tuple[int, tf.Tensor]] = []
    self.rows: list[tf.Tensor] = []
    self.tables: list[keras.Variable] = []

  def __call__(self, table: keras.Variable, ids: tf.Tensor) -> tf.Tensor:
    """Returns rows of a table, shape=(*ids.shape, width), float32.

    Each row travels once, however often the batch reads it.

    Args:
      table: the model's variable.
      ids: int32, of any shape.
    """
    k = self._indices.get(id(table))
    if k is None:
      # Frozen: pulled as a whole, once per dispatch.
      return tf.gather(tf.convert_to_tensor(table.value), ids)
    unique, positions = tf.unique(tf.reshape(ids, [-1]))
    rows = self._remote.pull_rows(k, unique)
    rows = tf.ensure_shape(rows, [None, table.shape[1]])
    self._tape.watch(rows)
    self._ids.append((k, unique))
    self.rows.append(rows)
    self.tables.append(table)
    shape = tf.concat([tf.shape(ids), table.shape[1:]], axis=0)
    read = tf.reshape(tf.gather(rows, positions), shape)
    return tf.ensure_shape(read, [*ids.shape, table.shape[1]])

  def messages(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
    """Packs the push: one message per table of the server.

    Args:
      gradients: one per tensor in `rows`.

    Raises:
      UserError: if the step has read a table twice.
    """
    pushed = {}
    for (k, ids), g, rows in zip(self._ids, gradients, self.rows, strict=True):
      if k in pushed:
        raise errors.UserError(
          f"The table {self._remote.tables[k].path} is read twice in a step: "
          "concatenate the ids, and call the SparseEmbedding once."
        )
      pushed[k] = (ids, g, rows)
    messages = []
    for k, table in enumerate(self._remote.tables):
      nothing = tf.zeros([0, table.shape[1]])
      rows = pushed.get(k, (tf.zeros([0], tf.int32), nothing, nothing))
      messages.append(self._remote.row_message(k, *rows))
    return messages
