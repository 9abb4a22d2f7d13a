"""Runs scenarios on a real local cluster, in a process of their own.

TensorFlow connects a process to one cluster for good, so that every cluster
gets a coordinator process, which runs its scenarios one after another and
prints what they return as JSON.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping

from absl.testing import parameterized

_ROOT = pathlib.Path(__file__).resolve().parents[2]


class ClusterTestCase(parameterized.TestCase):
  """Starts one cluster per class and holds what its scenarios returned.

  Class attributes:
    MODULE: the module that defines the scenarios.
    SCENARIOS: names of functions of a `ParameterServerStrategy`, and of the
      `LocalCluster` if they want to do something to its tasks.
    NUM_WORKERS: worker processes.
    NUM_PS: ps processes.
    ENVIRON: what else the environment has.
    results: what each scenario returned, by its name.
    stderr: what the coordinator printed there.
  """

  MODULE: str
  SCENARIOS: tuple[str, ...]
  NUM_WORKERS = 1
  NUM_PS = 1
  ENVIRON: Mapping[str, str] = types.MappingProxyType({})

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    with tempfile.TemporaryDirectory() as directory:
      completed = subprocess.run(
        [
          sys.executable,
          "-m",
          __name__,
          cls.MODULE,
          str(cls.NUM_WORKERS),
          str(cls.NUM_PS),
          directory,
          *cls.SCENARIOS,
        ],
        cwd=_ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | cls.ENVIRON,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
      )
    lines = completed.stdout.strip().splitlines()
    if completed.returncode or not lines:
      raise AssertionError(
        f"The coordinator exited with {completed.returncode}:\n"
        f"{completed.stdout[-2000:]}\n{completed.stderr[-6000:]}"
      )
    cls.results = json.loads(lines[-1])
    cls.stderr = completed.stderr


def _main(module, num_workers, num_ps, directory, *scenarios):
  # A coordinator needs the cluster's environment before TensorFlow starts.
  import importlib
  import inspect

  from lc_asgd_tf import cluster

  environ = dict(os.environ)
  with cluster.LocalCluster(
    int(num_workers), int(num_ps), directory, environ=environ, on_failure=None
  ) as local:
    strategy = cluster.connect(local.specification)
    results = {}
    for name in scenarios:
      scenario = getattr(importlib.import_module(module), name)
      wants_cluster = len(inspect.signature(scenario).parameters) > 1
      cluster_too = [local] if wants_cluster else []
      results[name] = scenario(strategy, *cluster_too)
    del strategy, scenario
  print("\n" + json.dumps(results), flush=True)
  os._exit(0)


if __name__ == "__main__":
  _main(*sys.argv[1:])
