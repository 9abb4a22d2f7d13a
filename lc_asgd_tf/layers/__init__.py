"""Keras layers that a parameter-server cluster treats in a way of its own."""

from lc_asgd_tf.layers.lookup import Lookup, looking_up
from lc_asgd_tf.layers.sparse_embedding import SparseEmbedding

__all__ = ("Lookup", "SparseEmbedding", "looking_up")
