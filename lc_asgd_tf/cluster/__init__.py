"""Clusters: what a task knows of its cluster, and clusters of one machine."""

from lc_asgd_tf.cluster.connection import connect, wait_for_tasks
from lc_asgd_tf.cluster.local import (
  LocalCluster,
  TaskFailure,
  hides_interrupt,
  interrupt_main_thread,
)
from lc_asgd_tf.cluster.ports import check_port_free, free_ports
from lc_asgd_tf.cluster.processors import bind_worker
from lc_asgd_tf.cluster.resources import (
  Machine,
  common_environment,
  coordinator_environment,
  keep_freed_memory,
  task_environment,
)
from lc_asgd_tf.cluster.specification import (
  ClusterSpecification,
  from_environment,
)

__all__ = [
  "ClusterSpecification",
  "LocalCluster",
  "Machine",
  "TaskFailure",
  "bind_worker",
  "check_port_free",
  "common_environment",
  "connect",
  "coordinator_environment",
  "free_ports",
  "from_environment",
  "hides_interrupt",
  "interrupt_main_thread",
  "keep_freed_memory",
  "task_environment",
  "wait_for_tasks",
]
