"""An embedding whose table need not travel."""

import keras
import tensorflow as tf

from lc_asgd_tf.layers import lookup


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class SparseEmbedding(keras.layers.Embedding):
  """`keras.layers.Embedding`, of which workers pull and push single rows.

  On a cluster, the table and its slots lie on one ps task. A worker pulls the
  rows that its batch reads, computes, and pushes their gradients, so that a
  step costs what the batch costs, however large the table is. Rows that no
  batch reads stay as they are: they have no momentum, no weight decay, and no
  compensation, since the minibatch's loss does not depend on them. With plain
  SGD that is the update of `keras.layers.Embedding`; optimizers with slots
  behave as LazyAdam does.

  Everywhere else, in `fit`, `evaluate` and `predict` and with simulated
  workers, the layer is `keras.layers.Embedding`, whose arguments it has.

  Example:
  ```python
  model = keras.Sequential(
    [
      lc_asgd_tf.layers.SparseEmbedding(1_000_000, 64),
      keras.layers.GlobalAveragePooling1D(),
      keras.layers.Dense(1),
    ]
  )
  ```

  Workers pull the table of a layer that is not trained as a whole, once per
  dispatch. On a cluster a step may call the layer once; the table may be read
  by this layer alone, without a regularizer; and the optimizer must treat every
  weight by itself. `AsyncTrainer` raises a `ValueError` where that is not so.
  """

  def __init__(self, *args, **kwargs) -> None:
    super().__init__(*args, **kwargs)
    # Rows come from another process in the middle of the step.
    self.supports_jit = False

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    """Returns the rows of the ids in `inputs`, shape=(*inputs, output_dim)."""
    look_up = lookup.current()
    if look_up is None:
      return super().call(inputs)
    ids = inputs
    if keras.backend.standardize_dtype(ids.dtype) != "int64":
      ids = keras.ops.cast(ids, "int32")
    # As in Keras, the last rows have negative ids, too. There is no row
    # input_dim: whoever looks one up is told so.
    ids = keras.ops.where(ids < 0, ids + self.input_dim, ids)
    is_row = (ids >= 0) & (ids < self.input_dim)
    ids = keras.ops.where(is_row, ids, self.input_dim)
    rows = look_up(self._embeddings, keras.ops.cast(ids, "int32"))
    return keras.ops.cast(rows, self.compute_dtype)
