"""Flags of the cluster that a program starts on this machine."""

import dataclasses

from absl import flags


@dataclasses.dataclass(frozen=True)
class ClusterOptions:
  """What the flags of this group say.

  Attributes:
    num_workers: worker processes.
    num_ps: parameter-server processes.
    base_port: first port of the cluster; None for any free ports.
  """

  num_workers: int
  num_ps: int
  base_port: int | None


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
    "and the workers; by default any free ports.",
    lower_bound=1,
    upper_bound=65535,
  )


def read() -> ClusterOptions:
  """Returns the parsed flags of this group."""
  values = flags.FLAGS
  return ClusterOptions(
    num_workers=values.num_workers,
    num_ps=values.num_ps,
    base_port=values.base_port,
  )
