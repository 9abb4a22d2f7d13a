"""Copies of a model's variables, which lie where the server lies."""

import collections
from collections.abc import Iterable, Sequence

import keras
import tensorflow as tf


def clone(variable: keras.Variable) -> keras.Variable:
  """Returns a variable of the same value on the current device.

  It is named by the whole path, as the inner optimizer's slots are, and has the
  path by which some optimizers choose what to do.
  """
  copy = keras.Variable(
    value(variable),
    dtype=variable.dtype,
    # Read inside a layer's scope, too, and as it is.
    autocast=False,
    name=slot_prefix(variable),
  )
  copy._path = variable.path
  copy.constraint = variable.constraint
  return copy


def value(variable: keras.Variable) -> tf.Tensor:
  """Returns a variable's value, or zeros where it has none yet."""
  # Keras creates variables while it traces, and gives them a value later.
  if variable.value.is_initialized():
    return tf.convert_to_tensor(variable.value)
  return tf.zeros(variable.shape, variable.dtype)


def renew_diverged(variables: Iterable[keras.Variable]) -> None:
  """Sets variables to zero, where they lie, that are not finite throughout."""
  for variable in variables:
    with tf.device(variable.value.device):
      now = tf.convert_to_tensor(variable.value)
      is_finite = tf.reduce_all(tf.math.is_finite(now))
      variable.assign(tf.where(is_finite, now, tf.zeros_like(now)))


def slot_prefix(variable: keras.Variable) -> str:
  """Returns what the names of a variable's slots begin with in Keras."""
  return variable.path.replace("/", "_")


Key = tuple[int | None, str]
"""What of an optimizer's state a variable is, there as here.

(the id of the model's variable, name of the slot) if it belongs to a weight;
otherwise (None, its name) if all have it, and (None, which of the rest it is),
since Keras does not name all, but creates them in the same order.
"""

# That of the learning rate is there or not: schedules and callables have none.
_NAMED = ("iteration", "learning_rate")

Slots = dict[Key, tf.Tensor]
"""An optimizer's state."""


def keyed(
  state: Sequence[keras.Variable],
  weights: Sequence[keras.Variable],
  originals: Sequence[keras.Variable] | None = None,
) -> list[tuple[Key, keras.Variable]]:
  """Returns an optimizer's variables, each behind its key.

  Args:
    state: the optimizer's variables.
    weights: what it was built on. Of weights that share a path, as they may in
      a subclassed model, the first has the first slot of a name.
    originals: what the weights are copies of; None if of nothing.
  """
  owners = collections.defaultdict(list)
  for weight, owner in zip(weights, originals or weights, strict=True):
    owners[f"{slot_prefix(weight)}_"].append(id(owner))
  seen = collections.Counter()
  pairs = []
  for variable in state:
    name = variable.name
    prefix = max(filter(name.startswith, owners), key=len, default=None)
    if name in _NAMED:
      key = None, name
    elif prefix is None:
      key = None, str(seen[None])
      seen[None] += 1
    else:
      key = owners[prefix][seen[name]], name.removeprefix(prefix)
      seen[name] += 1
    pairs.append((key, variable))
  return pairs


def decays(
  optimizer: keras.optimizers.Optimizer, variable: keras.Variable
) -> bool:
  """Returns whether the optimizer's weight decay is for this variable, too."""
  # On TensorFlow, Keras looks for a pattern in the name of the tf.Variable,
  # which is the path.
  return optimizer._use_weight_decay(variable.value)


def exempt_copies(
  optimizer: keras.optimizers.Optimizer,
  variables: Iterable[keras.Variable],
  copies: Iterable[keras.Variable],
) -> None:
  """Has weight decay leave alone the copies of what it leaves alone.

  Keras knows exempt variables by their identity and by their names, of which
  copies have others.

  Args:
    optimizer: not built yet.
    variables: those that the optimizer's exemptions are about.
    copies: on which the optimizer will be built: one per variable, or a single
      one of all, which are then exempt together or not at all.
  """
  exempt = [
    copy
    for variable, copy in zip(variables, copies, strict=False)
    if not decays(optimizer, variable)
  ]
  optimizer.exclude_from_weight_decay(var_list=exempt)
