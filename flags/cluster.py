"""Flags of the cluster that a program starts or connects to."""

import dataclasses

from absl import flags

from flags import finite


@dataclasses.dataclass(frozen=True)
class ClusterOptions:
  """What the flags of this group say.

  Attributes:
    num_workers: worker processes.
    num_ps: parameter-server processes.
    base_port: first port of the cluster; None for any free ports.
    bind_workers: whether each worker keeps to processors of its own.
    connect_timeout: how long to wait for the tasks of TF_CONFIG's cluster, in
      seconds.
  """

  num_workers: int
  num_ps: int
  base_port: int | None
  bind_workers: bool
  connect_timeout: float


def define() -> None:
  """Registers the flags of this group."""
  flags.DEFINE_integer(
    "num_workers",
    4,
    "Worker processes to start on this machine. Not read if TF_CONFIG "
    "describes a cluster that runs already.",
    lower_bound=1,
  )
  flags.DEFINE_integer(
    "num_ps",
    1,
    "Parameter-server processes to start on this machine. Not read if "
    "TF_CONFIG describes a cluster that runs already.",
    lower_bound=1,
  )
  flags.DEFINE_integer(
    "base_port",
    None,
    "First of the consecutive ports of the coordinator, the parameter servers "
    "and the workers; by default any free ports. Not read if TF_CONFIG "
    "describes a cluster that runs already.",
    lower_bound=1,
    upper_bound=65535,
  )
  flags.DEFINE_boolean(
    "bind_workers",
    True,
    "Let each worker keep to processors of its own, on Linux, where there are "
    "no GPUs, and at least as many processors as workers. Not read if "
    "TF_CONFIG describes a cluster that runs already.",
  )
  flags.DEFINE_float(
    "connect_timeout",
    120.0,
    "How long to wait for the tasks of the cluster that TF_CONFIG describes, "
    "in seconds.",
    lower_bound=0.0,
  )
  finite.check("connect_timeout")


def read() -> ClusterOptions:
  """Returns the parsed flags of this group."""
  values = flags.FLAGS
  return ClusterOptions(
    num_workers=values.num_workers,
    num_ps=values.num_ps,
    base_port=values.base_port,
    bind_workers=values.bind_workers,
    connect_timeout=values.connect_timeout,
  )
