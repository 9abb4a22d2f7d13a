import subprocess
import sys

from absl.testing import absltest, parameterized

from lc_asgd_tf.reports import settings
from tests.cluster import processes
from tests.reports import runs


def _errors(by_setting):
  """Returns the test errors of the runs by delays."""
  return {
    setting.delays: sorted(record["test_error"] for record in records)
    for setting, records in by_setting.items()
  }


class BySettingTest(parameterized.TestCase):
  @parameterized.parameters(
    {"rule": "asgd"}, {"num_workers": 8}, {"learning_rate": 0.3}, {"seed": 1}
  )
  def test_one_setting(self, **other):
    grouped = settings.by_setting([runs.run(), runs.run(**other)])
    self.assertEqual([len(records) for records in grouped.values()], [2])

  @parameterized.parameters(
    {"dataset": "mnist"},
    {"model": "resnet8"},
    {"delays": "constant"},
    {"inner_optimizer": "adam"},
    {"momentum": 0.9},
    {"batch_size": 32},
    {"epochs": 4},
    {"batch_norm": "plain"},
    {"train_split": "train[:50%]"},
    {"test_split": "test[:50%]"},
  )
  def test_two_settings(self, **other):
    grouped = settings.by_setting([runs.run(), runs.run(**other)])
    self.assertEqual([len(records) for records in grouped.values()], [1, 1])

  def test_a_run_that_is_there_twice_counts_as_it_was_last(self):
    grouped = settings.by_setting(
      [runs.run(test_error=0.5), runs.run(test_error=0.25)]
    )
    self.assertEqual(_errors(grouped), {"heterogeneous": [0.25]})

  def test_order_does_not_depend_on_that_of_the_records(self):
    records = [
      runs.run(train_split="train[:50%]"),
      runs.run(epochs=20),
      runs.run(epochs=100),
      runs.run(),
    ]
    expected = [3, 3, 20, 100]
    for order in (records, records[::-1]):
      grouped = settings.by_setting(order)
      self.assertEqual([setting.epochs for setting in grouped], expected)

  def test_a_sequential_run_serves_all_delays(self):
    grouped = settings.by_setting(
      [
        runs.sequential(0.125, delays="constant"),
        runs.run(test_error=0.25, delays="homogeneous"),
        runs.run(test_error=0.5, delays="heavy_tailed", batch_norm="plain"),
      ]
    )
    self.assertEqual(
      _errors(grouped),
      {"homogeneous": [0.125, 0.25], "heavy_tailed": [0.125, 0.5]},
    )
    for setting, records in grouped.items():
      for record in records:
        self.assertEqual(settings.setting_of(record), setting)

  @parameterized.parameters(("async", "precise"), ("precise", "plain"))
  def test_precise_statistics_are_others_with_one_worker_too(self, one, other):
    grouped = settings.by_setting(
      [
        runs.sequential(0.125, batch_norm=one),
        runs.run(test_error=0.25, batch_norm=one),
        runs.run(test_error=0.5, batch_norm=other),
      ]
    )
    errors = {
      s.batch_norm: [r["test_error"] for r in rs] for s, rs in grouped.items()
    }
    self.assertEqual(errors, {one: [0.125, 0.25], other: [0.5]})

  def test_a_sequential_run_of_its_own_counts_before_others(self):
    grouped = settings.by_setting(
      [
        runs.sequential(0.0625, seed=0),
        runs.run(test_error=0.5),
        runs.sequential(0.125, delays="constant", seed=0),
        runs.sequential(0.25, delays="constant", seed=1),
      ]
    )
    self.assertEqual(_errors(grouped), {"heterogeneous": [0.0625, 0.25, 0.5]})

  def test_a_sequential_run_does_not_serve_another_batch_size(self):
    grouped = settings.by_setting(
      [runs.sequential(0.125, batch_size=32), runs.run(test_error=0.25)]
    )
    self.assertEqual([setting.batch_size for setting in grouped], [16, 32])


class SettingTest(parameterized.TestCase):
  def test_title_and_details(self):
    setting = settings.setting_of(
      runs.run(momentum=0.9, train_split="train[:50%]")
    )
    self.assertEqual(setting.title, "digits, mlp, heterogeneous delays")
    self.assertEqual(
      setting.details,
      "batch size 16, 3 epochs, inner optimizer sgd, momentum 0.9, async batch "
      "normalization, trained on train[:50%]",
    )

  @parameterized.parameters((0.0, False), (0.9, True))
  def test_only_dana_has_a_momentum_beside_others_than_sgd(
    self, momentum, told
  ):
    setting = settings.setting_of(
      runs.run(momentum=momentum, inner_optimizer="adamw")
    )
    self.assertEqual("momentum" in setting.details, told)

  def test_file_name(self):
    self.assertEqual(
      settings.setting_of(runs.run()).file_name,
      "digits-mlp-heterogeneous-sgd-m0.0-b16-e3",
    )

  @parameterized.parameters(
    ({"model": "a/b"}, {"model": "a_b"}),
    ({"model": "MLP"}, {"model": "mlp"}),
    ({"dataset": "a-b", "model": "c"}, {"dataset": "a", "model": "b-c"}),
    ({"delays": "x" * 300}, {"delays": "x" * 301}),
    ({"train_split": "test"}, {"test_split": "test"}),
    ({"train_split": "train[:5%]"}, {"train_split": "train[5%:]"}),
    ({"batch_norm": "plain"}, {"train_split": "plain"}),
    ({"momentum": 0.9}, {"momentum": 0.9000001}),
    ({"model": "../../x.keras"}, {"model": "x.keras"}),
  )
  def test_file_names_are_safe_and_differ(self, one, other):
    names = [
      settings.setting_of(runs.run(**fields)).file_name
      for fields in (one, other)
    ]
    self.assertNotEqual(*names)
    for name in names:
      self.assertRegex(name, r"^[a-z0-9_.-]{1,200}$")


class ImportTest(absltest.TestCase):
  def test_needs_neither_tensorflow_nor_keras(self):
    code = processes.WITHOUT_KERAS + (
      "import sys\n"
      "sys.modules['tensorflow'] = None\n"
      "import lc_asgd_tf.reports\n"
    )
    ended = subprocess.run(
      [sys.executable, "-c", code], capture_output=True, text=True
    )
    self.assertEqual(ended.returncode, 0, ended.stderr)


if __name__ == "__main__":
  absltest.main()
