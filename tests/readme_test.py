"""What README.md shows works as it stands."""

import os
import pathlib
import re
import subprocess
import sys

import keras
from absl.testing import absltest

import lc_asgd_tf

_ROOT = pathlib.Path(__file__).parents[1]
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class ReadmeTest(absltest.TestCase):
  def test_trains_on_a_cluster_from_python(self):
    blocks = _PYTHON.findall((_ROOT / "README.md").read_text())
    (script,) = (block for block in blocks if "LocalCluster" in block)
    directory = self.create_tempdir().full_path
    pathlib.Path(directory, "script.py").write_text(script)
    ended = subprocess.run(
      [sys.executable, "script.py"],
      cwd=directory,
      env=os.environ | {"PYTHONPATH": str(_ROOT)},
      capture_output=True,
      text=True,
      timeout=180,
    )
    self.assertEqual(ended.returncode, 0, ended.stderr)
    self.assertIn("Epoch 5/5", ended.stdout)
    saved = os.path.join(directory, "model.keras")
    model = keras.models.load_model(saved)
    self.assertIsInstance(model.optimizer, lc_asgd_tf.LCASGD)


if __name__ == "__main__":
  absltest.main()
