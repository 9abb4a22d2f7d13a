"""Values of TF_CONFIG that no task can use, and what the user is told."""

import json

CLUSTER = {
  "chief": ["127.0.0.1:2220"],
  "worker": ["127.0.0.1:2221", "127.0.0.1:2222"],
  "ps": ["127.0.0.1:2223"],
}
TASK = {"type": "worker", "index": 0}


def config(cluster=None, task=None, **others) -> str:
  """Returns a valid TF_CONFIG but for what is given."""
  return json.dumps(
    {
      "cluster": {**CLUSTER, **(cluster or {})},
      "task": TASK if task is None else task,
      **others,
    }
  )


def _without(job: str) -> str:
  cluster = {name: tasks for name, tasks in CLUSTER.items() if name != job}
  return json.dumps({"cluster": cluster, "task": TASK})


# (name of the case, TF_CONFIG, what the message must contain)
MALFORMED = (
  ("empty", "", "TF_CONFIG is not set"),
  ("blank", " \n", "TF_CONFIG is not set"),
  ("not_json", "{cluster: 1}", "not JSON"),
  ("nested_too_deep", "[" * 100_000, "not JSON"),
  ("not_an_object", '["worker"]', "it must be a JSON object"),
  ("no_cluster", json.dumps({"task": TASK}), 'no "cluster"'),
  (
    "cluster_not_an_object",
    json.dumps({"cluster": "a:1\nb:2", "task": TASK}),
    '"cluster" must be a JSON object',
  ),
  ("no_worker_job", _without("worker"), "lists no worker"),
  ("no_workers", config({"worker": []}), "lists no worker"),
  ("no_ps_job", _without("ps"), "lists no ps"),
  ("no_ps", config({"ps": []}), "lists no ps"),
  ("two_chiefs", config({"chief": ["a:1", "b:2"]}), "one chief"),
  ("evaluator_job", config({"evaluator": ["a:1"]}), "not supported"),
  ("unknown_job", config({"master": ["a:1"]}), 'unknown task type "master"'),
  ("job_not_a_list", config({"ps": "host:2223"}), '"ps" must be a list'),
  ("sparse_job", config({"ps": {"0": "host:2223"}}), '"ps" must be a list'),
  ("no_port", config({"ps": ["localhost"]}), '"localhost" is not host:port'),
  ("no_host", config({"ps": [":2223"]}), "is not host:port"),
  ("scheme", config({"ps": ["grpc://host:2223"]}), "is not host:port"),
  ("named_port", config({"ps": ["host:http"]}), "is not host:port"),
  ("line_break", config({"ps": ["host:1\nhost:2"]}), "is not host:port"),
  ("bare_ipv6", config({"ps": ["::1:2223"]}), "is not host:port"),
  ("not_text", config({"ps": [2223]}), "address 2223 is not host:port"),
  ("long_address", config({"ps": ["h" * 10_000]}), "is not host:port"),
  ("port_zero", config({"ps": ["host:0"]}), "port 0 of"),
  ("port_too_large", config({"ps": ["host:65536"]}), "port 65536 of"),
  (
    "duplicate_address",
    config({"ps": ["127.0.0.1:2221"]}),
    "127.0.0.1:2221 is listed twice",
  ),
  ("no_task", json.dumps({"cluster": CLUSTER}), 'no "task"'),
  ("task_not_an_object", config(task="worker"), '"task" must be'),
  ("no_type", config(task={"index": 0}), 'has no "type"'),
  ("no_index", config(task={"type": "worker"}), 'has no "index"'),
  (
    "unknown_type",
    config(task={"type": "Worker", "index": 0}),
    'unknown task type "Worker"',
  ),
  ("unhashable_type", config(task={"type": {}, "index": 0}), "unknown task"),
  (
    "evaluator",
    config(task={"type": "evaluator", "index": 0}),
    'task type "evaluator" is not supported',
  ),
  (
    "index_out_of_range",
    config(task={"type": "worker", "index": 2}),
    "there is no worker 2: the cluster lists 2",
  ),
  (
    "negative_index",
    config(task={"type": "worker", "index": -1}),
    "there is no worker -1",
  ),
  (
    "index_not_whole",
    config(task={"type": "worker", "index": 0.5}),
    "task index 0.5 is not a whole number",
  ),
  (
    "index_true",
    config(task={"type": "worker", "index": True}),
    "task index true is not a whole number",
  ),
  (
    "other_rpc_layer",
    config(rpc_layer="grpc+verbs"),
    '"rpc_layer" must be "grpc"',
  ),
)
