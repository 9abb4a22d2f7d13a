"""The handwritten digits that scikit-learn ships, as a TFDS data set."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from sklearn import datasets

from lc_asgd_tf.datasets import preparation

_DESCRIPTION = """
1,797 scans of handwritten digits, as 8x8 images in 17 shades of grey: the test
half of the UCI data set "Optical Recognition of Handwritten Digits", bundled
with scikit-learn.
"""

_CITATION = """
@misc{alpaydin1998optical,
  author = {Alpaydin, E. and Kaynak, C.},
  title = {Optical Recognition of Handwritten Digits},
  year = {1998},
  howpublished = {UCI Machine Learning Repository},
  doi = {10.24432/C50P49}
}
"""

_BRIGHTEST = 16  # scikit-learn's scans hold the integers 0..16.
_TEST_STRIDE = 5  # Every fifth scan of a digit is a test example.


class Digits(tfds.core.GeneratorBasedBuilder):
  """8x8 scans of the digits 0 to 9, real data that needs no download.

  Features of one example:
    image: uint8 of shape `(8, 8, 1)`, 0 (paper) to 255 (ink). scikit-learn's
      shade `v` of 0..16 is stored as `round(v * 255 / 16)`, so that the
      brightest shade is 255 as in any other 8-bit image and pipelines need no
      special case. The 17 shades stay distinct.
    label: int64 of shape `()`, 0 to 9.

  Splits: `train` (1,437 examples) and `test` (360). The scans are sorted by
  digit, those of one digit in scikit-learn's order, and every fifth is a test
  example. Hence a fifth of each digit, to within one example, is in `test`, and
  the split depends on no random generator and no version of scikit-learn. Both
  splits hold scans by the same writers: test accuracy speaks of new scans, not
  of new writers.

  Importing `lc_asgd_tf.datasets` registers the data set with TFDS, so that
  `tfds.load("digits")` works; the first load writes 1,797 examples into the
  TFDS data directory, without a network.
  """

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "Initial release."}

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=_DESCRIPTION,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint8),
          "label": tfds.features.ClassLabel(num_classes=10),
        }
      ),
      supervised_keys=("image", "label"),
      homepage="https://scikit-learn.org/stable/datasets/toy_dataset.html",
      citation=_CITATION,
    )

  def download_and_prepare(
    self,
    *,
    download_config: tfds.download.DownloadConfig | None = None,
    **kwargs: Any,
  ) -> None:
    """Writes the data set, silently, without a network.

    Several processes may do so at once, as the workers of a cluster on one
    machine do: the first to finish wins, and the others use its files.

    Args:
      download_config: as in TFDS, but the public bucket is never asked.
      **kwargs: as in `tfds.core.DatasetBuilder.download_and_prepare`.
    """
    config = download_config or tfds.download.DownloadConfig()
    # TFDS announces each data set on standard output; a fraction of a second
    # of work on bundled data is not worth announcing.
    preparation.hide_progress_from_files()
    silence = contextlib.redirect_stdout(io.StringIO())
    with preparation.first_writer_wins(self), silence:
      super().download_and_prepare(
        download_config=config.replace(try_download_gcs=False), **kwargs
      )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    del dl_manager  # Nothing to download.
    labels = datasets.load_digits().target
    by_label = np.argsort(labels, kind="stable")
    is_test = np.arange(len(labels)) % _TEST_STRIDE == 0
    return {
      "train": self._generate_examples(by_label[~is_test]),
      "test": self._generate_examples(by_label[is_test]),
    }

  def _generate_examples(
    self, indices: np.ndarray
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the scans at these indices, keyed by scikit-learn's index."""
    digits = datasets.load_digits()
    images = np.rint(digits.images * (255 / _BRIGHTEST)).astype(np.uint8)
    for index in indices:
      yield (
        int(index),
        {
          "image": images[index, :, :, np.newaxis],
          "label": int(digits.target[index]),
        },
      )
