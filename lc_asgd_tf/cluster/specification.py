"""What one task knows of its cluster: every address, and which is its own.

The TensorFlow convention is the environment variable TF_CONFIG, a JSON object:

    {"cluster": {"chief": ["host0:2222"],
                 "worker": ["host1:2222", "host2:2222"],
                 "ps": ["host3:2222"]},
     "task": {"type": "worker", "index": 0}}

TensorFlow itself accepts nearly anything here and fails later, far from the
cause; this module checks all of it first, without importing TensorFlow.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lc_asgd_tf.errors import UserError

if TYPE_CHECKING:
  import tensorflow as tf

TASK_TYPES = ("chief", "worker", "ps")

_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+):([0-9]{1,9})")

_LOOPBACK_HOSTS = {"127.0.0.1", "localhost"}


@dataclasses.dataclass(frozen=True)
class ClusterSpecification:
  """The addresses of a parameter-server cluster, as seen by one of its tasks.

  An instance is always valid: making one checks it.

  Attributes:
    workers: "host:port" of each worker, by index; at least one.
    ps: "host:port" of each parameter server, by index; at least one.
    chief: "host:port" of the coordinator. Only the coordinator itself needs
      it: workers and ps answer whoever calls.
    task_type: "chief", "worker" or "ps": what this process is.
    task_index: which task of that type this process is, from 0.

  Raises:
    UserError: If there are no workers or no ps, an address is malformed or
      listed twice, or the task is not one of the cluster's.
  """

  workers: tuple[str, ...]
  ps: tuple[str, ...]
  chief: str | None = None
  task_type: str = "chief"
  task_index: int = 0

  def __post_init__(self):
    if not self.workers:
      raise UserError("the cluster lists no worker")
    if not self.ps:
      raise UserError("the cluster lists no ps")
    addresses = [a for tasks in self.as_dict().values() for a in tasks]
    for position, address in enumerate(addresses):
      port_of(address)
      if address in addresses[:position]:
        raise UserError(f"address {address} is listed twice")
    _check_task_type(self.task_type)
    tasks = self.as_dict().get(self.task_type, [])
    if not 0 <= self.task_index < len(tasks):
      raise UserError(
        f"there is no {self.task_type} {self.task_index}: the cluster lists "
        f"{len(tasks)} of type {self.task_type}"
      )

  @property
  def num_workers(self) -> int:
    """The number of worker tasks."""
    return len(self.workers)

  @property
  def num_ps(self) -> int:
    """The number of ps tasks."""
    return len(self.ps)

  @property
  def address(self) -> str:
    """This task's own "host:port"."""
    return self.as_dict()[self.task_type][self.task_index]

  @property
  def is_local(self) -> bool:
    """Whether all addresses are those by which a machine calls itself."""
    hosts = {
      address.rpartition(":")[0]
      for tasks in self.as_dict().values()
      for address in tasks
    }
    return hosts <= _LOOPBACK_HOSTS

  def as_dict(self) -> dict[str, list[str]]:
    """Returns the addresses by task type, without this task's identity."""
    chief = {} if self.chief is None else {"chief": [self.chief]}
    return {**chief, "worker": list(self.workers), "ps": list(self.ps)}

  def for_task(self, task_type: str, index: int) -> ClusterSpecification:
    """Returns the same cluster as seen by another of its tasks.

    Args:
      task_type: "chief", "worker" or "ps".
      index: Which task of that type, from 0.

    Raises:
      UserError: If the cluster has no such task.
    """
    return dataclasses.replace(self, task_type=task_type, task_index=index)

  def tf_config(self, task_type: str, index: int) -> str:
    """Returns the TF_CONFIG of one task; `from_environment` reads it back.

    Args:
      task_type: "chief", "worker" or "ps".
      index: Which task of that type, from 0.

    Raises:
      UserError: If the cluster has no such task.
    """
    view = self.for_task(task_type, index)
    task = {"type": view.task_type, "index": view.task_index}
    return json.dumps({"cluster": view.as_dict(), "task": task})

  def as_cluster_spec(self) -> tf.train.ClusterSpec:
    """Returns what `tf.distribute.Server` takes."""
    import tensorflow as tf

    return tf.train.ClusterSpec(self.as_dict())

  def cluster_resolver(self) -> tf.distribute.cluster_resolver.ClusterResolver:
    """Returns what `tf.distribute.ParameterServerStrategy` takes."""
    import tensorflow as tf

    return tf.distribute.cluster_resolver.SimpleClusterResolver(
      self.as_cluster_spec(),
      task_type=self.task_type,
      task_id=self.task_index,
      rpc_layer="grpc",
    )


def in_environment(environ: Mapping[str, str]) -> bool:
  """Returns whether TF_CONFIG says anything; empty, it counts as not set.

  Args:
    environ: The environment, usually `os.environ`.
  """
  return bool(environ.get("TF_CONFIG", "").strip())


def from_environment(environ: Mapping[str, str]) -> ClusterSpecification:
  """Reads the cluster and this process's task from TF_CONFIG.

  Args:
    environ: The environment, usually `os.environ`.

  Raises:
    UserError: If TF_CONFIG is missing or anything in it is malformed; the
      message says what, in one line.
  """
  if not in_environment(environ):
    raise UserError(
      "TF_CONFIG is not set: it must hold the cluster and this process's task"
    )
  try:
    return _parse(_load_json(environ["TF_CONFIG"]))
  except UserError as error:
    raise UserError(f"TF_CONFIG: {error}") from None


def port_of(address: str) -> int:
  """Returns the port of "host:port" (an IPv6 host stands in brackets).

  Raises:
    UserError: If the address is malformed or the port is not in 1..65535.
  """
  match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
  if match is None:
    raise UserError(f"address {_quote(address)} is not host:port")
  port = int(match[1])
  if not 1 <= port <= 65535:
    raise UserError(f"port {port} of {_quote(address)} is not in 1..65535")
  return port


def _load_json(text: str) -> Any:
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as error:
    raise UserError(f"not JSON: {error}") from None


def _parse(config: Any) -> ClusterSpecification:
  """Checks the shape of TF_CONFIG; the specification checks its contents."""
  _check_object(config, "it")
  if "cluster" not in config:
    raise UserError('there is no "cluster"')
  cluster = config["cluster"]
  _check_object(cluster, '"cluster"')
  for task_type, addresses in cluster.items():
    _check_task_type(task_type)
    if not isinstance(addresses, list):
      raise UserError(
        f'"{task_type}" must be a list of addresses, not {_quote(addresses)}'
      )
  chiefs = cluster.get("chief", [])
  if len(chiefs) > 1:
    raise UserError(f"one chief coordinates a cluster, not {len(chiefs)}")

  if "task" not in config:
    raise UserError('there is no "task"')
  task = config["task"]
  _check_object(task, '"task"')
  for key in ("type", "index"):
    if key not in task:
      raise UserError(f'"task" has no "{key}"')
  _check_task_type(task["type"])

  rpc_layer = config.get("rpc_layer", "grpc")
  if rpc_layer != "grpc":
    raise UserError(f'"rpc_layer" must be "grpc", not {_quote(rpc_layer)}')
  return ClusterSpecification(
    workers=tuple(cluster.get("worker", [])),
    ps=tuple(cluster.get("ps", [])),
    chief=chiefs[0] if chiefs else None,
    task_type=task["type"],
    task_index=_parse_index(task["index"]),
  )


def _parse_index(index: Any) -> int:
  # Templates of cluster managers often yield "0": TensorFlow takes it, too.
  if isinstance(index, str) and re.fullmatch("[0-9]{1,9}", index):
    return int(index)
  if isinstance(index, int) and not isinstance(index, bool):
    return index
  raise UserError(f"task index {_quote(index)} is not a whole number")


def _check_object(value: Any, name: str) -> None:
  if not isinstance(value, dict):
    raise UserError(f"{name} must be a JSON object, not {_quote(value)}")


def _check_task_type(task_type: Any) -> None:
  if task_type == "evaluator":
    raise UserError(
      'task type "evaluator" is not supported: the coordinator evaluates'
    )
  if task_type not in TASK_TYPES:
    raise UserError(
      f"unknown task type {_quote(task_type)}: use chief, worker or ps"
    )


def _quote(value: Any, limit: int = 60) -> str:
  """Returns the value as JSON writes it, on one line, cut to `limit`."""
  text = json.dumps(value, default=repr)
  return text if len(text) <= limit else f"{text[:limit]}..."
