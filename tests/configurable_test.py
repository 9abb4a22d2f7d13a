import keras
from absl.testing import absltest, parameterized

from lc_asgd_tf import AsyncOptimizer, compensation, delays, predictors


class Doubled(compensation.Compensation):
  """A rule with an argument that its config does not know."""

  def __init__(self, factor=2.0, *, other=1.0):
    self.factor, self.other = factor, other


class Late(delays.Homogeneous):
  def __init__(self, lateness=3.0, **kwargs):
    super().__init__(**kwargs)
    self.lateness = lateness


class Guess(predictors.HoltLossPredictor):
  def __init__(self, guess=0.5):
    self.guess = guess


class Renamed(delays.Homogeneous):
  """Its constructor is another, with the same arguments."""

  def __init__(self, variation=0.2, seed=1):
    super().__init__(variation, seed)


class Whole(Late):
  def get_config(self):
    return delays.Homogeneous.get_config(self) | {"lateness": self.lateness}


class ConfigurableTest(parameterized.TestCase):
  @parameterized.parameters(
    (Doubled, "Doubled must override get_config: .*: factor, other."),
    (Late, "Late must override get_config: .*: lateness."),
    (Guess, "Guess must override get_config: .*: guess."),
  )
  def test_arguments_are_not_lost_in_silence(self, kind, message):
    with self.assertRaisesRegex(NotImplementedError, message):
      kind().get_config()

  def test_a_subclass_of_such_a_class_is_refused_too(self):
    class Later(Late):
      pass

    with self.assertRaisesRegex(NotImplementedError, "Late must override"):
      Later().get_config()

  def test_the_same_arguments_need_no_other_config(self):
    restored = Renamed.from_config(Renamed(0.3, seed=2).get_config())
    self.assertEqual((restored.variation, restored.seed), (0.3, 2))

  def test_a_config_of_its_own(self):
    restored = Whole.from_config(Whole(5.0, variation=0.3).get_config())
    self.assertEqual((restored.lateness, restored.variation), (5.0, 0.3))

  def test_an_optimizer_says_so_when_it_is_saved(self):
    optimizer = AsyncOptimizer(keras.optimizers.SGD(), Doubled())
    with self.assertRaisesRegex(NotImplementedError, "Doubled must override"):
      keras.saving.serialize_keras_object(optimizer)


if __name__ == "__main__":
  absltest.main()
