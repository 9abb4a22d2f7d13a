"""Comparisons by name: what they set, and all else is the user's to set."""

import types
from collections.abc import Mapping

DEFAULTS: Mapping[str, object] = types.MappingProxyType(
  {
    "dataset": "digits",
    "model": "deep_mlp",
    "rules": ("all",),
    "num_workers": (1, 8, 32, 128),
    "delays": ("heterogeneous",),
    "learning_rates": (0.1,),
    "inner_optimizer": "sgd",
    "momentum": 0.0,
    "batch_size": 16,
    "epochs": 30,
    "seeds": 3,
    "batch_norm": "async",
    "train_split": None,
    "test_split": None,
  }
)
"""What a comparison does that nobody says more of."""

PRESETS: Mapping[str, Mapping[str, object]] = types.MappingProxyType(
  {
    # All rules on a small network, in minutes.
    "digits": {},
    # What is worth running before each change: two minutes on two cores.
    "smoke": {
      "rules": ("asgd", "dc_asgd", "lc_asgd"),
      "num_workers": (1, 64),
      "epochs": 15,
      "seeds": 2,
    },
    # What LC-ASGD is made of, and what it must be better than.
    "controls": {
      "rules": ("asgd", "dc_asgd", "lc_asgd", "controls"),
      "num_workers": (1, 32, 128),
      "seeds": 5,
    },
  }
)
"""What each preset sets in place of the defaults."""
