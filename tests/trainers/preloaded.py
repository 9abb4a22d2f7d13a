"""Runs commands in processes that need not import TensorFlow again."""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from unittest import mock

# What takes the seconds; no module that defines flags.
_PRELOAD = (
  "keras",
  "lc_asgd_tf",
  "lc_asgd_tf.comparison",
  "lc_asgd_tf.datasets",
  "lc_asgd_tf.models",
  "lc_asgd_tf.reports",
)
_SECONDS = 250


def run(
  module: str,
  *arguments: str,
  directory: str | os.PathLike[str] = ".",
  environ: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess:
  """Runs `python -m module arguments`, but for what imports take and print.

  Args:
    module: the name of the command's module.
    *arguments: of its command line.
    directory: in which it runs.
    environ: what it has in its environment beyond that of the tests.

  Returns:
    Status and, as text, all that it wrote.
  """
  context = multiprocessing.get_context("forkserver")
  # All but the first call find the server there.
  context.set_forkserver_preload(list(_PRELOAD))
  with tempfile.TemporaryDirectory() as folder:
    outputs = [pathlib.Path(folder, name) for name in ("out", "err")]
    for output in outputs:
      output.touch()
    process = context.Process(
      target=_run,
      args=(module, arguments, os.fspath(directory), environ or {}, outputs),
    )
    # TensorFlow's noise is not what is tested with it.
    with mock.patch.dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3"):
      process.start()
    process.join(_SECONDS)
    if process.is_alive():
      process.kill()
      process.join()
      raise TimeoutError(f"{module} {' '.join(arguments)} does not end.")
    texts = [output.read_text("utf-8") for output in outputs]
  return subprocess.CompletedProcess(
    [module, *arguments], process.exitcode, *texts
  )


def _run(
  module: str,
  arguments: Sequence[str],
  directory: str,
  environ: Mapping[str, str],
  outputs: Sequence[pathlib.Path],
) -> None:
  os.environ.update(environ)
  os.chdir(directory)
  for descriptor, output in enumerate(outputs, start=1):
    file = os.open(output, os.O_WRONLY)
    os.dup2(file, descriptor)
  sys.argv = [module, *arguments]
  runpy.run_module(module, run_name="__main__", alter_sys=True)
