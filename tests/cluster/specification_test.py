import dataclasses
import json

from absl.testing import absltest, parameterized

from lc_asgd_tf.cluster import specification
from lc_asgd_tf.errors import UserError
from tests.cluster import malformed

SPECIFICATION = specification.ClusterSpecification(
  workers=("host1:2222", "host2:2222", "[fe80::1]:2222"),
  ps=("host3:2222", "host4:2222"),
  chief="host0:2222",
)


class FromEnvironmentTest(parameterized.TestCase):
  def test_reads_cluster_and_task(self):
    task = {"type": "ps", "index": 0}
    read = specification.from_environment(
      {"TF_CONFIG": malformed.config(task=task)}
    )
    self.assertEqual(
      read,
      specification.ClusterSpecification(
        workers=("127.0.0.1:2221", "127.0.0.1:2222"),
        ps=("127.0.0.1:2223",),
        chief="127.0.0.1:2220",
        task_type="ps",
        task_index=0,
      ),
    )
    self.assertEqual(read.address, "127.0.0.1:2223")

  def test_index_may_be_text(self):
    task = {"type": "worker", "index": "1"}
    config = malformed.config(task=task)
    read = specification.from_environment({"TF_CONFIG": config})
    self.assertEqual(read.task_index, 1)

  def test_workers_and_ps_need_no_chief(self):
    config = json.loads(malformed.config())
    del config["cluster"]["chief"]
    read = specification.from_environment({"TF_CONFIG": json.dumps(config)})
    self.assertIsNone(read.chief)
    self.assertNotIn("chief", read.as_dict())

  def test_chief_needs_its_address(self):
    config = malformed.config({"chief": []}, task={"type": "chief", "index": 0})
    with self.assertRaisesRegex(UserError, "no chief 0: the cluster lists 0"):
      specification.from_environment({"TF_CONFIG": config})

  def test_missing(self):
    with self.assertRaisesRegex(UserError, "TF_CONFIG is not set"):
      specification.from_environment({})

  @parameterized.named_parameters(*malformed.MALFORMED)
  def test_malformed_is_one_short_line(self, config, message):
    with self.assertRaises(UserError) as caught:
      specification.from_environment({"TF_CONFIG": config})
    self.assertIn(message, str(caught.exception))
    self.assertStartsWith(str(caught.exception), "TF_CONFIG")
    self.assertLen(str(caught.exception).splitlines(), 1)
    self.assertLess(len(str(caught.exception)), 200)


class ClusterSpecificationTest(parameterized.TestCase):
  @parameterized.parameters(
    ("127.0.0.1:1", True),
    ("localhost:1", True),
    ("host1:1", False),
    ("[fe80::1]:1", False),
  )
  def test_is_local_if_all_addresses_are(self, worker, expected):
    local = specification.ClusterSpecification(
      chief="127.0.0.1:2", workers=(worker,), ps=("localhost:3",)
    )
    self.assertEqual(local.is_local, expected)

  def test_counts(self):
    self.assertEqual(SPECIFICATION.num_workers, 3)
    self.assertEqual(SPECIFICATION.num_ps, 2)

  @parameterized.parameters(
    ("chief", 0, "host0:2222"),
    ("worker", 1, "host2:2222"),
    ("ps", 1, "host4:2222"),
  )
  def test_tf_config_round_trip(self, task_type, index, address):
    config = SPECIFICATION.tf_config(task_type, index)
    read = specification.from_environment({"TF_CONFIG": config})
    self.assertEqual(read, SPECIFICATION.for_task(task_type, index))
    self.assertEqual(read.address, address)

  @parameterized.parameters(("worker", 3), ("ps", -1), ("evaluator", 0))
  def test_tf_config_of_no_task(self, task_type, index):
    with self.assertRaises(UserError):
      SPECIFICATION.tf_config(task_type, index)

  def test_is_immutable(self):
    with self.assertRaises(dataclasses.FrozenInstanceError):
      SPECIFICATION.task_index = 1

  def test_what_tensorflow_takes(self):
    self.assertEqual(
      SPECIFICATION.as_cluster_spec().as_dict(), SPECIFICATION.as_dict()
    )
    resolver = SPECIFICATION.for_task("worker", 1).cluster_resolver()
    self.assertEqual(resolver.cluster_spec().as_dict(), SPECIFICATION.as_dict())
    self.assertEqual(resolver.task_type, "worker")
    self.assertEqual(resolver.task_id, 1)
    self.assertEqual(resolver.rpc_layer, "grpc")


if __name__ == "__main__":
  absltest.main()
