"""Each process's share of one machine, as environment variables.

TensorFlow gives every process as many threads as the machine has cores, and
every process all GPUs. With several processes on a machine, both hurt: idle
threads of one spin on the cores that another computes on, and the first
process takes all GPU memory. The variables here belong into the environment
before the process imports TensorFlow.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import re
import subprocess
from collections.abc import Mapping
from importlib import metadata

_NO_GPU = "-1"  # What CUDA takes for "no device"; unset would mean all.

_COMMON = {
  # A call to a task that is gone fails at once; the caller says whether to
  # retry.
  "GRPC_FAIL_FAST": "use_caller",
  "TF_CPP_MIN_LOG_LEVEL": "1",  # Warnings and errors.
}

# The function that the coordinator runs on a worker holds one of these threads
# until it has ended. With no other, which is also TensorFlow's default on a
# machine of one core, its operations never start and the cluster hangs.
_INTER_OP = "TF_NUM_INTEROP_THREADS"
_MIN_INTER_OP = 2

_XLA_FLAGS_OF_PS = {
  # A push is many small kernels that XLA would hand to another thread one by
  # one, to run side by side what takes less time than to wake it.
  "--xla_cpu_enable_concurrency_optimized_scheduler": "false",
  # Sums in any order, and so several elements at a time. What else the name
  # promises is off by default: infinities and NaN are what they are.
  "--xla_cpu_enable_fast_math": "true",
}
# Flags come and go, and XLA ends a process that is given one it does not know.
_XLA_FLAGS_KNOWN_TO = "2.21."

# Of glibc's <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8
_LARGEST_INT = 2**31 - 1

# gRPC sends even calls to this machine through the proxy that http_proxy
# names, where they hang.
LOOPBACK: Mapping[str, str] = {"no_grpc_proxy": "127.0.0.1,localhost"}


@dataclasses.dataclass(frozen=True)
class Machine:
  """What the tasks of a local cluster share.

  Attributes:
    cores: Cores that this process may run on.
    gpus: The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names
      them.
  """

  cores: int
  gpus: tuple[str, ...] = ()

  @classmethod
  def detect(cls, environ: Mapping[str, str]) -> Machine:
    """Returns this machine, as far as this process may use it.

    Args:
      environ: The environment; its CUDA_VISIBLE_DEVICES, if set, limits the
        GPUs.
    """
    return cls(cores=_usable_cores(), gpus=_usable_gpus(environ))


def common_environment(
  environ: Mapping[str, str], task_type: str = "chief"
) -> dict[str, str]:
  """Returns the variables that a process should have wherever it runs.

  Only workers see GPUs, whose memory belongs to them: weights and optimizer
  state live in the host memory of a ps, where every worker's push passes
  anyway.

  Args:
    environ: The environment so far; a setting of the user's wins over ours,
      except where the cluster would not work with it.
    task_type: "chief", "worker" or "ps".
  """
  return {
    **_unset_of(_COMMON, environ),
    **_inter_op_threads(_usable_cores(), environ),
    **(_xla_flags_of_ps(environ) if task_type == "ps" else {}),
    **({} if task_type == "worker" else {"CUDA_VISIBLE_DEVICES": _NO_GPU}),
  }


def coordinator_environment(
  environ: Mapping[str, str], local: bool = True
) -> dict[str, str]:
  """Returns the variables for the coordinator of a cluster.

  It keeps all cores, since it computes only while the workers wait.

  Args:
    environ: The environment so far; a setting of the user's wins over ours,
      except where the cluster would not work with it.
    local: Whether all tasks run on this machine. Where they do not, whose calls
      take a proxy is the user's to say.
  """
  # Errors only: this process shares the user's terminal.
  quiet = _unset_of({"TF_CPP_MIN_LOG_LEVEL": "2"}, environ)
  return {
    **common_environment(environ),
    **quiet,
    **(LOOPBACK if local else {}),
  }


def keep_freed_memory() -> None:
  """Makes this process keep the memory that it frees, to use it again.

  Gradients and weights travel in buffers of the model's size. glibc gives
  large buffers back to the system at once and gets them page by page, zeroed,
  which takes longer than the update of the weights that they hold. Does
  nothing with other C libraries.
  """
  with contextlib.suppress(AttributeError, OSError):
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)
    # The arenas of threads cannot grow to large buffers.
    mallopt(_M_ARENA_MAX, 1)


def task_environment(
  machine: Machine,
  task_type: str,
  index: int,
  *,
  num_workers: int,
  num_ps: int,
  environ: Mapping[str, str],
) -> dict[str, str]:
  """Returns the variables for one worker or ps of a local cluster.

  The workers divide the cores and the GPUs among themselves, round-robin.
  Where several share a GPU, each takes memory as it needs it. (The GPU part
  follows the documentation of CUDA and TensorFlow; it has not been run on a
  machine with a GPU.)

  Args:
    machine: What the cluster shares.
    task_type: "worker" or "ps".
    index: Which task of that type, from 0.
    num_workers: Workers in the cluster.
    num_ps: Parameter servers in the cluster.
    environ: The environment so far; a setting of the user's wins over ours,
      except where the cluster would not work with it.
  """
  if task_type == "worker":
    intra_op = max(1, machine.cores // num_workers)
    inter_op = intra_op + 1  # One for the function that runs the others.
    gpu = _gpu_of_worker(machine.gpus, index, num_workers)
  else:
    intra_op = max(1, machine.cores // (num_workers + num_ps))
    # Waiting threads cost nothing, a queue behind a busy one does: one for a
    # call from each worker, one for the predictors that train meanwhile.
    inter_op = num_workers + 1
    gpu = {}
  threads = {
    "TF_NUM_INTRAOP_THREADS": str(intra_op),
    "OMP_NUM_THREADS": str(intra_op),
  }
  return {
    **common_environment(environ, task_type),
    **_unset_of(threads, environ),
    **_inter_op_threads(inter_op, environ),
    **LOOPBACK,
    **gpu,
  }


def _unset_of(
  defaults: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
  return {k: v for k, v in defaults.items() if k not in environ}


def _xla_flags_of_ps(environ: Mapping[str, str]) -> dict[str, str]:
  users = environ.get("XLA_FLAGS", "")
  known = metadata.version("tensorflow").startswith(_XLA_FLAGS_KNOWN_TO)
  ours = [f"{k}={v}" for k, v in _XLA_FLAGS_OF_PS.items() if k not in users]
  if not known or not ours:
    return {}
  return {"XLA_FLAGS": " ".join([*ours, users]).strip()}


def _inter_op_threads(
  wanted: int, environ: Mapping[str, str]
) -> dict[str, str]:
  if environ.get(_INTER_OP, "1") != "1":
    return {}
  return {_INTER_OP: str(max(_MIN_INTER_OP, wanted))}


def _gpu_of_worker(
  gpus: tuple[str, ...], index: int, num_workers: int
) -> dict[str, str]:
  if not gpus:
    return {"CUDA_VISIBLE_DEVICES": _NO_GPU}
  own = {"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]}
  if num_workers > len(gpus):
    # TensorFlow's default takes all memory of a GPU at once.
    own["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
  return own


def _usable_cores() -> int:
  if hasattr(os, "sched_getaffinity"):  # Linux; it respects taskset, cgroups'
    return len(os.sched_getaffinity(0))  # cpusets and batch systems.
  return os.cpu_count() or 1


def _usable_gpus(environ: Mapping[str, str]) -> tuple[str, ...]:
  if "CUDA_VISIBLE_DEVICES" not in environ:
    return _installed_gpus()
  gpus = []
  for name in environ["CUDA_VISIBLE_DEVICES"].split(","):
    name = name.strip()
    if not name or name.startswith("-"):
      break  # CUDA itself ignores what follows an entry that names no device.
    gpus.append(name)
  return tuple(gpus)


def _installed_gpus() -> tuple[str, ...]:
  """Returns the driver's GPUs by UUID: its numbers may differ from CUDA's."""
  try:
    listing = subprocess.run(
      ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10
    )
  except (OSError, subprocess.TimeoutExpired):
    return ()
  return tuple(
    re.findall(r"^GPU .*\(UUID: (GPU-[^)\s]+)\)", listing.stdout, re.MULTILINE)
  )
