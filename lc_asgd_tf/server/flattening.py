"""When the weights of a server can lie in memory as one vector.

A model has dozens of variables, most of them small, and an update of one vector
costs a fraction of what updates of dozens do. It is the same update wherever
rule and inner optimizer treat every element by itself.
"""

from collections.abc import Sequence

import keras

from lc_asgd_tf.compensation import compensation as compensation_lib
from lc_asgd_tf.server import clones

# Whose updates are elementwise, with one state per element; by exact type,
# since a subclass may do anything.
ELEMENTWISE = (
  keras.optimizers.SGD,
  keras.optimizers.RMSprop,
  keras.optimizers.Adam,
  keras.optimizers.AdamW,
  keras.optimizers.Adadelta,
  keras.optimizers.Adagrad,
  keras.optimizers.Adamax,
  keras.optimizers.Nadam,
  keras.optimizers.Ftrl,
  keras.optimizers.Lion,
)


def is_elementwise(compensation: compensation_lib.Compensation) -> bool:
  """Returns whether the rule says that it is elementwise, not just its base."""
  return vars(type(compensation)).get("elementwise", False)


def is_possible(
  variables: Sequence[keras.Variable],
  inner_optimizer: keras.optimizers.Optimizer,
  compensation: compensation_lib.Compensation,
) -> bool:
  """Returns whether these variables may be updated as one vector.

  Not so with `clipnorm`, which takes the norm of each variable, where some of
  them are exempt from weight decay, with constraints, and with other types than
  float32.

  Args:
    variables: of one shard.
    inner_optimizer: the shard's.
    compensation: the rule.
  """
  return (
    type(inner_optimizer) in ELEMENTWISE
    and not inner_optimizer.clipnorm
    and len({clones.decays(inner_optimizer, v) for v in variables}) <= 1
    and is_elementwise(compensation)
    and all(
      variable.dtype == "float32" and variable.constraint is None
      for variable in variables
    )
  )
