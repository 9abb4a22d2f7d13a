"""AsyncTrainer on real clusters: nothing is lost, nothing is different."""

import re
import types
import unittest
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import lc_asgd_tf
from tests.parameter_server import cluster_case, scenarios

_STEPS = scenarios.STEPS


class ManyWorkersTest(cluster_case.ClusterTestCase):
  MODULE = scenarios.__name__
  NUM_WORKERS = 3
  NUM_PS = 2
  SCENARIOS = (
    "asgd_counts",
    "adam_counts",
    "lc_asgd_counts",
    "not_finite",
    "rules",
    "repeated_push",
    "batch_normalization",
    "callbacks",
    "weights_set_meanwhile",
    "state_set_meanwhile",
    "slots_set_meanwhile",
    "learning_rate_functions",
    "learning_rates_restored",
    "interruptions",
    "checkpoints",
    "errors",
    "seeds",
    "unusual_models",
  )

  @parameterized.parameters("asgd_counts", "adam_counts", "lc_asgd_counts")
  def test_no_push_is_lost(self, scenario):
    counts = self.results[scenario]
    self.assertEqual(counts["iterations"], [_STEPS, _STEPS])
    self.assertEqual(counts["version"], _STEPS)
    self.assertEqual(counts["pushes"], _STEPS)
    self.assertEqual(counts["worker_steps"], _STEPS)
    self.assertEqual(counts["variables_per_shard"], [2, 2])

  @parameterized.parameters("asgd_counts", "adam_counts", "lc_asgd_counts")
  def test_server_and_workers_count_the_same_staleness(self, scenario):
    counts = self.results[scenario]
    self.assertEqual(counts["staleness_sum"], counts["worker_staleness_sum"])
    self.assertEqual(counts["staleness_max"], counts["worker_staleness_max"])
    # Without a late push, none of this would have been a test.
    self.assertGreater(counts["staleness_max"], 0)

  def test_pushes_that_are_not_finite_change_nothing_but_counts(self):
    result = self.results["not_finite"]
    self.assertEqual(result["version"], _STEPS)
    # Half of each worker's, rounded down.
    self.assertBetween(result["rejected"], (_STEPS - 3) / 2, _STEPS / 2)
    for values in (*result["weights"], result["second_moments"]):
      self.assertTrue(np.all(np.isfinite(values)))
      self.assertTrue(np.all(np.not_equal(values, 0.0)))

  def test_every_weight_moves_by_every_push(self):
    kernel, bias = [[-_STEPS]] * 3, [-_STEPS]
    self.assertEqual(
      self.results["asgd_counts"]["weights"], [kernel, bias, kernel, bias]
    )

  @parameterized.parameters(
    "ssgd", "staleness_aware", "gap_aware", "dana", "dc_asgd_c"
  )
  def test_every_rule_counts_every_push(self, rule):
    counts = self.results["rules"][rule]
    self.assertEqual(counts["version"], 60)
    self.assertEqual(counts["worker_steps"], 60)
    self.assertEqual(counts["staleness_sum"], counts["worker_staleness_sum"])
    rounds = 20 if rule == "ssgd" else 60
    self.assertEqual(counts["iterations"], [rounds, rounds])
    self.assertEqual(counts["model_iterations"], rounds)

  def test_a_synchronous_round_is_one_update(self):
    counts = self.results["rules"]["ssgd"]
    self.assertEqual(counts["weights"][1], [-20.0])
    self.assertEqual(counts["staleness_max"], 0)
    self.assertIn("whole number of rounds", self.results["rules"]["error"])

  def test_a_push_too_many_shifts_no_round(self):
    result = self.results["repeated_push"]
    # The rest of its round is left out, and then all are whole again.
    self.assertEqual(result["versions"], [3, 9, 12, 15])
    self.assertEqual(result["empty"], [7, 8])
    self.assertEqual(result["weights"][1], [-4.0])

  def test_momentum_per_worker_sees_every_push(self):
    # Without momentum, DANA is ASGD.
    self.assertEqual(self.results["rules"]["dana"]["weights"][1], [-60.0])

  def test_16_bits_halve_the_replies(self):
    # The second shard's: three weights and a bias.
    self.assertEqual(self.results["rules"]["dana"]["reply"], 4)
    self.assertEqual(self.results["rules"]["dc_asgd_c"]["reply"], 2)
    for weight in self.results["rules"]["dc_asgd_c"]["weights"]:
      self.assertLess(np.max(weight), 0.0)

  def test_slots_are_updated_by_every_push(self):
    # All gradients are 1, so that after n updates the average is 1 - beta^n.
    for value in self.results["adam_counts"]["momentums"]:
      self.assertAlmostEqual(value, 1 - 0.9**_STEPS, places=5)
    for value in self.results["lc_asgd_counts"]["second_moments"]:
      self.assertAlmostEqual(value, 1 - 0.95**_STEPS, places=5)
    self.assertEqual(self.results["lc_asgd_counts"]["rejected"], 0)

  def test_warns_of_losses_that_a_rule_cannot_use(self):
    (warning,) = self.results["lc_asgd_counts"]["warnings"]
    self.assertStartsWith(warning, "The loss is negative")

  def test_trend_has_every_report_once(self):
    self.assertEqual(self.results["lc_asgd_counts"]["reports_in_trend"], _STEPS)

  def test_metrics_count_every_example(self):
    counts = self.results["asgd_counts"]
    self.assertEqual(counts["examples"], _STEPS * scenarios.BATCH)
    self.assertTrue(counts["loss_is_finite"])

  def test_moving_statistics_do_not_depend_on_staleness(self):
    result = self.results["batch_normalization"]
    self.assertGreater(result["staleness_max"], 0)
    kept = 0.99**_STEPS
    for moving, batch in zip(
      result["moving_mean"], result["batch_mean"], strict=True
    ):
      self.assertAlmostEqual(moving, (1 - kept) * batch, places=4)
    for moving, batch in zip(
      result["moving_variance"], result["batch_variance"], strict=True
    ):
      self.assertAlmostEqual(moving, kept + (1 - kept) * batch, places=4)

  def test_precise_statistics_are_those_of_the_batches(self):
    result = self.results["batch_normalization"]
    for name in ("mean", "variance"):
      np.testing.assert_allclose(
        result[f"precise_{name}"], result[f"batch_{name}"], rtol=1e-5
      )

  def test_no_random_number_is_drawn_twice(self):
    self.assertEqual(self.results["batch_normalization"]["seed_steps"], _STEPS)

  def test_callbacks_see_and_steer_the_server(self):
    result = self.results["callbacks"]
    self.assertEqual(result["seen"], [-20.0, -30.0, -35.0])
    self.assertEqual(result["epochs"], 3)
    self.assertEqual(result["last_batch"], 19)
    self.assertContainsSubset(
      [
        "loss",
        "val_loss",
        "learning_rate",
        "pushes",
        "staleness_mean",
        "staleness_max",
        "loss_prediction_mae",
        "loss_persistence_mae",
        "step_prediction_mae",
        "step_persistence_mae",
      ],
      result["keys"],
    )

  def test_workers_go_on_from_weights_that_callbacks_set(self):
    self.assertEqual(
      self.results["weights_set_meanwhile"], [[960.0], [960.0], [980.0]]
    )

  def test_workers_go_on_from_state_that_callbacks_set(self):
    result = self.results["state_set_meanwhile"]
    self.assertEqual(result["seen"], [[0, 0], [1, 10], [2, 11]])
    self.assertEqual(result["losses"], [11, 13, 15])

  def test_slots_that_callbacks_set_are_the_servers(self):
    result = self.results["slots_set_meanwhile"]
    self.assertEqual(result["iterations"], 1020)
    # A velocity tends to -1, 64 of it take the weight 64 further.
    self.assertAlmostEqual(result["weight"], -40 + 1 + 64 + 1, delta=0.01)

  def test_a_learning_rate_may_be_a_function_of_the_coordinators(self):
    ends = self.results["learning_rate_functions"]["ends"]
    # A schedule that is set in between counts the updates before it, too:
    # iterations 40 to 50 are at 1, the other nine at 3.
    self.assertEqual(ends, [-40.0, -60.0, -60.0 - 11 - 9 * 3.0])

  def test_a_learning_rate_counts_whatever_was_restored_or_set_before(self):
    ends = self.results["learning_rates_restored"]["ends"]
    self.assertEqual(ends, [-20.0, -80.0, -80.0, -140.0])

  def test_a_learning_rate_set_at_the_end_of_an_epoch_stays(self):
    self.assertEqual(self.results["callbacks"]["last_rate"], 0.125)

  def test_the_last_batch_of_an_epoch_has_its_logs(self):
    # As `TerminateOnNaN` needs them.
    self.assertEqual(self.results["callbacks"]["differences"], [0.0] * 3)

  def test_compiling_anew_counts(self):
    result = self.results["callbacks"]
    self.assertEqual(result["new_loss"], [1000.0])
    self.assertEqual(result["new_metric"], [20 * scenarios.BATCH])

  def test_stops_with_the_steps_that_workers_are_at(self):
    result = self.results["interruptions"]
    (pushes,) = result["stopped_pushes"]
    self.assertBetween(pushes, scenarios.DISPATCH, 200)
    self.assertEqual(result["after_stop"], -pushes)
    # As in Keras, not without a batch, whose loss there would not be.
    (pushes,) = result["stopped_at_begin"]
    self.assertBetween(pushes, scenarios.DISPATCH, 200)

  def test_what_was_interrupted_pushes_no_more(self):
    result = self.results["interruptions"]
    self.assertTrue(result["interrupted"])
    self.assertEqual(result["after_save"], 0)
    self.assertEqual(result["after_restore"], 0)
    self.assertEqual(result["pushes"], 20)
    self.assertEqual(result["worker_steps"], 20)
    self.assertEqual(result["moved"], -20.0)

  def test_fit_continues_where_it_was(self):
    result = self.results["callbacks"]
    self.assertEqual(result["epochs_again"], 1)
    self.assertEqual(result["after_again"], -40.0)

  def test_checkpoints_bring_everything_back(self):
    result = self.results["checkpoints"]
    self.assertTrue(result["moved"])
    self.assertTrue(result["restored"])
    self.assertTrue(result["restored_slots"])
    self.assertEqual(result["version"], 30)
    self.assertIn("does not fit", result["error"])
    self.assertLen(result["damaged"], 6)
    for message in result["damaged"]:
      self.assertIn("is damaged", message)

  def test_a_checkpoint_is_of_the_server_there_is(self):
    result = self.results["checkpoints"]
    self.assertTrue(result["restored_latest"])
    self.assertEqual(result["learned"], 30)
    self.assertAlmostEqual(result["learning_rate"], 0.001)

  def test_what_is_unusual_is_as_in_keras(self):
    result = self.results["unusual_models"]
    self.assertEqual(result["own_loss"], [-10.0])
    # Every example reads row 1 three times.
    self.assertEqual(result["embedding"], [0.0, -30.0, 0.0, 0.0, 0.0])
    self.assertLess(result["statistics_moved"], 0.2)
    self.assertTrue(result["frozen"])
    # Six weights, which nobody sends any more.
    self.assertEqual(result["freezing_spares"], 6)
    self.assertEqual(result["iterations"], _STEPS + 20)

  def test_workers_shuffle_under_any_global_seed(self):
    self.assertEqual(self.results["seeds"]["iterations"], 10)

  def test_a_saved_model_has_weights_and_optimizer(self):
    result = self.results["checkpoints"]
    self.assertTrue(result["loaded"])
    self.assertEqual(result["loaded_iterations"], 30)
    self.assertEqual(result["loaded_class"], "LCASGD")

  @parameterized.parameters(
    ("not compiled", "UserError: The model is not compiled"),
    (
      "python generator",
      "UserError: x returns a tf.data.Dataset.from_generator",
    ),
    ("no loss", "ValueError: No loss to compute."),
    ("stock optimizer", "TypeError: The optimizer must be"),
    ("simulation", "UserError: The optimizer simulates num_workers=4"),
    ("train_step", "UserError: OwnStep overrides train_step"),
    ("shared normalization", "UserError: The moving statistic"),
    ("strategy", "TypeError: strategy must be"),
    ("data set", "TypeError: x must be a function"),
    ("not a data set", "TypeError: x must return a tf.data.Dataset"),
    ("endless", "UserError: steps_per_epoch is needed"),
    ("steps", "ValueError: steps_per_epoch must be at least 1"),
    ("batches", "UserError: ModelCheckpoint(save_freq=10) saves within"),
    ("generator", "UserError: validation_data is a list_iterator"),
    ("eagerly", "UserError: Workers run compiled functions"),
    ("metric", "UserError: largest/value of a metric has aggregation"),
    ("late metric", "UserError: Metric 'late' creates its variables when"),
    ("nothing to train", "UserError: The model does not have any trainable"),
    ("epochs", "TypeError: epochs must be an int, got '3'"),
    ("unfrozen", "UserError: The optimizer was built without part_0/kernel"),
    ("entries", "UserError: compute_metrics returns 'mine', which is no"),
    ("global_clipnorm", "UserError: global_clipnorm needs"),
    ("unnamed slots", "UserError: Adafactor does not name its state"),
    ("assigned weight", "UserError: The forward pass assigns"),
    ("assigned state", "UserError: The forward pass assigns"),
    ("no data", "UserError: The data set of a worker has no batch"),
    ("missing file", "UserError: A worker cannot read its data (/"),
    ("damaged file", "UserError: A worker cannot read its data (corrupted"),
    (
      "file that is nowhere else",
      "UserError: A worker cannot read its data (/",
    ),
  )
  def test_bad_input_is_refused_in_one_line(self, name, message):
    error = self.results["errors"][name]
    self.assertStartsWith(error, message)
    self.assertNotIn("\n", error)

  @unittest.skipUnless(
    hasattr(keras.optimizers, "MultiOptimizer"), "Keras has no MultiOptimizer."
  )
  def test_several_learning_rates_are_refused(self):
    self.assertStartsWith(
      self.results["errors"]["several learning rates"],
      "UserError: MultiOptimizer has several learning rates",
    )


class OneWorkerTest(cluster_case.ClusterTestCase):
  MODULE = scenarios.__name__
  NUM_WORKERS = 1
  NUM_PS = 2
  SCENARIOS = (
    "sequential",
    "arguments",
    "preempted",
    "result_on_its_way",
    "amid_a_dispatch",
  )

  def test_a_worker_may_die_before_its_result_is_home(self):
    result = self.results["result_on_its_way"]
    # The iterator, and at least one dispatch twice, of which nothing was left.
    self.assertGreater(result["announced"], 1 + 40 // scenarios.DISPATCH)
    self.assertEqual(result["pushes"], 60)

  def test_no_step_of_a_worker_that_died_is_done_again(self):
    result = self.results["amid_a_dispatch"]
    self.assertBetween(result["at_death"], 50, 200)
    self.assertEqual(result["pushes"], 400)
    self.assertEqual(result["bias"], [-400.0])

  def test_a_worker_that_comes_back_knows_how_far_training_has_come(self):
    result = self.results["preempted"]
    self.assertEqual(result["loss"], [0.0, 0.0, 40.0])
    self.assertEqual(result["pushes"], 60)

  def test_equals_sequential_training(self):
    results = self.results["sequential"]
    self.assertLen(results, 3)
    for name, difference in results.items():
      with self.subTest(name):
        self.assertEqual(difference["staleness_max"], 0)
        self.assertLess(difference["state"], 2e-5)
        self.assertLess(difference["loss"], 2e-5)
        self.assertLess(difference["accuracy"], 1e-6)

  def test_arguments_are_those_of_keras(self):
    results = self.results["arguments"]
    self.assertEqual(results["told"], results["expected_told"])
    self.assertEqual(results["told"]["epochs"], 4)
    self.assertIn("val_loss", results["names"])
    for name in ("weights", "logs", "last"):
      for ours, expected in zip(
        results[name], results[f"expected_{name}"], strict=True
      ):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, err_msg=name)


class CallsTest(cluster_case.ClusterTestCase):
  """What is slow, if it is there, and changes no result."""

  MODULE = scenarios.__name__
  SCENARIOS = ("calls", "lessons")
  ENVIRON = types.MappingProxyType(
    {
      "TF_CPP_VMODULE": (
        "grpc_worker_service=3,cluster_function_library_runtime=1"
      ),
      "TF_CPP_MIN_LOG_LEVEL": "0",
    }
  )

  def test_a_step_asks_for_message_reply_and_whether_there_is_another(self):
    # The rest is of the dispatch.
    for rule, calls in self.results["calls"].items():
      self.assertBetween(calls, 3 * _STEPS, 3 * _STEPS + 40, rule)

  def test_no_two_threads_run_functions_of_two_tasks(self):
    lessons = self.results["lessons"]
    self.assertGreater(lessons["learned"], 0)
    # TensorFlow's lines have a letter and the date, the time, and the thread.
    threads = re.findall(r"^\S+ \S+ +(\d+) .*CFLR::", self.stderr, re.M)
    self.assertEqual(set(threads), {str(lessons["main_thread"])})


class DispatchSizeTest(parameterized.TestCase):
  @parameterized.parameters(
    # At first, then half a second's, and never too many.
    (10_000, None, 1, 16),
    (10_000, 40.0, 1, 20),
    (10_000, 0.1, 1, 1),
    (10_000, 1e6, 1, 256),
    # Towards the end of the epoch a quarter of the rest, of two workers.
    (40, 1e6, 1, 10),
    (41, 1e6, 1, 11),
    (1, 1e6, 1, 1),
    # As the user wants.
    (10_000, 1e6, 50, 50),
    (30, 1e6, 50, 30),
  )
  def test_by_default(self, remaining, speed, steps_per_execution, expected):
    trainer = mock.Mock(
      _steps_per_dispatch=None,
      _speed=speed,
      num_workers=2,
      **{"model.steps_per_execution": steps_per_execution},
    )
    size = lc_asgd_tf.AsyncTrainer._dispatch_size(trainer, remaining)
    self.assertEqual(size, expected)


class ResultTest(absltest.TestCase):
  def test_a_result_that_was_lost_raises_why(self):
    error = tf.errors.InternalError(None, None, "no such request")
    # As TensorFlow's, read while its error is being set.
    result = mock.Mock(**{"fetch.side_effect": [None, error]})
    coordinator = mock.Mock(**{"done.side_effect": error})
    trainer = mock.Mock(_coordinator=coordinator)
    with self.assertRaisesRegex(tf.errors.InternalError, "no such request"):
      lc_asgd_tf.AsyncTrainer._fetch(trainer, result)


if __name__ == "__main__":
  absltest.main()
