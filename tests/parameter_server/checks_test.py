"""Tests for what is refused before there is a cluster."""

import types
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import lc_asgd_tf
from lc_asgd_tf import errors
from lc_asgd_tf.parameter_server import checks


class DevicesTest(parameterized.TestCase):
  @parameterized.parameters("model", "optimizer")
  def test_what_is_older_than_the_strategy_is_refused(self, owner):
    optimizer = lc_asgd_tf.ASGD(0.1)
    variables = [keras.Variable(np.zeros(2, "float32"))]
    model = types.SimpleNamespace(
      variables=variables if owner == "model" else [], optimizer=optimizer
    )
    here = types.SimpleNamespace(name=variables[0].value.device)
    with mock.patch.object(tf.config, "list_logical_devices") as devices:
      devices.return_value = [here]
      checks.check_devices(model)
      devices.return_value = []
      with self.assertRaisesRegex(
        errors.UserError, f"^The {owner} was created"
      ):
        checks.check_devices(model)


if __name__ == "__main__":
  absltest.main()
