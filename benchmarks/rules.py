"""The optimizers of benchmarks, which all move a velocity."""

import lc_asgd_tf

MOMENTUM = 0.9


def create(
  name: str, learning_rate: float, **arguments
) -> lc_asgd_tf.AsyncOptimizer:
  """Returns an optimizer of a rule with all of its momentum.

  With many workers LC-ASGD would leave SGD none, and have less to do than the
  rules beside it.

  Args:
    name: what `lc_asgd_tf` calls it.
    learning_rate: of SGD.
    **arguments: others of the optimizer.
  """
  if name == "LCASGD":
    arguments["keep_momentum"] = True
  return getattr(lc_asgd_tf, name)(
    learning_rate, momentum=MOMENTUM, **arguments
  )
