"""Data sets as input pipelines; importing this registers `digits` with TFDS."""

from lc_asgd_tf.datasets.digits import Digits
from lc_asgd_tf.datasets.image_classification import ImageClassification, load

__all__ = ["Digits", "ImageClassification", "load"]
