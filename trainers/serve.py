"""Serves one worker or ps task of a cluster: the program lc-asgd-serve.

The environment variable TF_CONFIG says what the cluster is and which of its
tasks this is:

    TF_CONFIG='{"cluster": {"chief": ["host0:2222"],
                            "worker": ["host1:2222", "host2:2222"],
                            "ps": ["host3:2222"]},
                "task": {"type": "worker", "index": 0}}' lc-asgd-serve

Start one for each worker and each ps, then lc-asgd-train with the same cluster
and the task {"type": "chief", "index": 0}. A task serves until it gets SIGTERM
or Ctrl-C; it keeps nothing on disk.

Security: TensorFlow's server has no authentication and listens on all network
interfaces, whatever TF_CONFIG says. Whoever reaches its port can run code with
this user's rights. Use it on a trusted network only.
"""

from __future__ import annotations

import importlib.util
import pathlib
from typing import NoReturn

from absl import app

from trainers import program


def main(argv: list[str]) -> NoReturn:
  """Serves the task of TF_CONFIG until a signal ends the process.

  Raises:
    UserError: If TF_CONFIG is malformed or is not of a worker or ps, or the
      port cannot be opened.
  """
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument: {argv[1]!r}")
  # By its path, for the reason that it gives; and here, so that `--help` and a
  # bad flag wait for nothing.
  package = importlib.util.find_spec("lc_asgd_tf")
  path = pathlib.Path(package.origin).with_name("cluster") / "task.py"
  spec = importlib.util.spec_from_file_location("lc_asgd_tf.cluster.task", path)
  task = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(task)
  task.serve()


def run() -> NoReturn:
  """The console script lc-asgd-serve."""
  program.run(main)


if __name__ == "__main__":
  run()
