"""Data sets as input pipelines; importing this registers `digits` with TFDS."""

from lc_asgd_tf.datasets.digits import Digits
from lc_asgd_tf.datasets.epochs import steps_per_epoch
from lc_asgd_tf.datasets.image_classification import ImageClassification, load
from lc_asgd_tf.datasets.in_memory import InMemoryClassification

__all__ = [
  "Digits",
  "ImageClassification",
  "InMemoryClassification",
  "load",
  "steps_per_epoch",
]
