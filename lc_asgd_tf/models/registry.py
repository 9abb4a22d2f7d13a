"""Models by name, or from a file that Keras saved."""

import difflib
import os
import pathlib
import zipfile
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from lc_asgd_tf import errors
from lc_asgd_tf.models.characters import characters
from lc_asgd_tf.models.convolutional import convolutional
from lc_asgd_tf.models.mlp import deep_mlp, mlp
from lc_asgd_tf.models.resnet import resnet8, resnet20

_BUILDERS: dict[str, Callable[[Sequence[int], int], keras.Model]] = {
  "mlp": mlp,
  "deep_mlp": deep_mlp,
  "convolutional": convolutional,
  "characters": characters,
  "resnet8": resnet8,
  "resnet20": resnet20,
}

NAMES: tuple[str, ...] = tuple(_BUILDERS)
"""The names of the reference networks."""

_SUFFIX = ".keras"


def register(
  name: str, builder: Callable[[Sequence[int], int], keras.Model]
) -> None:
  """Makes a network of the user's own known to `create` by name.

  Args:
    name: not one of `NAMES`.
    builder: takes the shape of one input and the number of classes, returns a
      model from inputs to logits.

  Raises:
    UserError: if it is one of `NAMES`.
  """
  if name in NAMES:
    raise errors.UserError(f"There is a network {name!r} already.")
  _BUILDERS[name] = builder


def create(
  name_or_path: str, input_shape: Sequence[int], num_classes: int
) -> keras.Model:
  """Builds a model by name, or loads one that `model.save` wrote.

  Building the same name after the same `keras.utils.set_random_seed` gives the
  same weights. A loaded model keeps its saved weights and comes uncompiled;
  Keras's safe mode stays on, so a file that carries Python code is refused.

  Args:
    name_or_path: one of `NAMES`, or the path of a `.keras` file.
    input_shape: shape of one input, without the batch.
    num_classes: number of classes.

  Returns:
    A model from inputs of shape `(batch, *input_shape)` to logits, float32 of
    shape `(batch, num_classes)`, without a softmax: losses need
    `from_logits=True`.

  Raises:
    UserError: if the name is unknown, the file is missing or is no Keras model,
      the model in it takes other inputs, or a model returns anything but such
      logits or has nothing to train.
  """
  if name_or_path in _BUILDERS:
    model = _BUILDERS[name_or_path](tuple(input_shape), num_classes)
    _check_inputs_known(model, name_or_path)
    _check_logits(model, f"the model {name_or_path!r}", num_classes)
    _check_trainable(model, f"the model {name_or_path!r}")
    return model
  check_name(name_or_path)
  path = pathlib.Path(os.path.expanduser(name_or_path))
  model = _load(path)
  _check_shape(model, path, tuple(input_shape))
  _check_logits(model, f"the model in {path}", num_classes)
  _check_trainable(model, f"the model in {path}")
  return model


def check_name(name_or_path: str) -> None:
  """Raises a `UserError` if `create` can know no such network."""
  path = os.path.expanduser(name_or_path)
  if name_or_path not in _BUILDERS and not path.endswith(_SUFFIX):
    if not os.path.isfile(path):
      raise errors.UserError(_unknown_name(name_or_path))


def check_inputs(
  model: keras.Model, spec: tf.TensorSpec, dataset_name: str
) -> None:
  """Raises a `UserError` if a model that looks numbers up gets measurements.

  Args:
    model: with one input.
    spec: of the data set's inputs.
    dataset_name: the data set's.
  """
  if "int" in model.inputs[0].dtype and not spec.dtype.is_integer:
    raise errors.UserError(
      f"the model {model.name} takes integers, but the inputs of "
      f"{dataset_name} are {spec.dtype.name}."
    )


def _check_inputs_known(model: keras.Model, name: str) -> None:
  try:
    known = bool(model.inputs)
  except (AttributeError, ValueError):
    known = False
  if not known:
    raise errors.UserError(
      f"the model {name!r} does not say what its inputs are: register a "
      "function that returns a functional model, or a Sequential one that "
      "begins with keras.Input."
    )


def _unknown_name(name: str) -> str:
  close = difflib.get_close_matches(name.lower(), _BUILDERS, n=1)
  suggestion = f"; did you mean {close[0]!r}?" if close else ""
  return (
    f"model {name!r} is neither one of {', '.join(_BUILDERS)} nor the path of a"
    f" {_SUFFIX} file{suggestion}"
  )


def _load(path: pathlib.Path) -> keras.Model:
  """Loads a saved model, uncompiled, or raises a `UserError`."""
  # Unlike the path's own method, false wherever the system refuses the path.
  if not os.path.isfile(path):
    raise errors.UserError(f"there is no model file {path}")
  # Keras goes by the suffix, and explains other contents badly.
  if path.suffix != _SUFFIX or not zipfile.is_zipfile(path):
    raise errors.UserError(
      f"{path} is not a Keras model; save one with model.save('name{_SUFFIX}')"
    )
  try:
    return keras.saving.load_model(path, compile=False)
  except Exception as error:  # Layers' own code runs, and may raise anything.
    raise errors.UserError(
      f"{path} cannot be loaded: {type(error).__name__}: {_reason(error)}"
    ) from error


def _reason(error: Exception) -> str:
  """The line of an error that says why; Keras has it follow a preamble."""
  preamble = "Exception encountered: "
  lines = str(error).strip().splitlines() or ["no reason given"]
  reasons = [line for line in lines if line.startswith(preamble)]
  return reasons[0].removeprefix(preamble) if reasons else lines[0]


def _check_shape(
  model: keras.Model, path: pathlib.Path, input_shape: tuple[int, ...]
) -> None:
  """Raises a `UserError` unless the model takes one input of this shape."""
  shapes = [tensor.shape[1:] for tensor in getattr(model, "inputs", None) or ()]
  if len(shapes) != 1:
    raise errors.UserError(
      f"the model in {path} has {len(shapes)} inputs of known shape; it must"
      " have one"
    )
  (shape,) = shapes
  fits = len(shape) == len(input_shape) and all(
    size in (None, wanted)
    for size, wanted in zip(shape, input_shape, strict=True)
  )
  if not fits:
    raise errors.UserError(
      f"the model in {path} takes inputs of shape {tuple(shape)}, but the data"
      f" has {input_shape}"
    )


def _check_logits(model: keras.Model, name: str, num_classes: int) -> None:
  """Raises a `UserError` unless the model returns float32 logits."""
  shapes = [tuple(tensor.shape[1:]) for tensor in model.outputs]
  if shapes != [(num_classes,)]:
    raise errors.UserError(
      f"{name} returns {', '.join(map(str, shapes))}, but the data"
      f" needs one logit for each of {num_classes} classes"
    )
  if model.outputs[0].dtype != "float32":
    raise errors.UserError(
      f"{name} returns {model.outputs[0].dtype} logits; give its"
      " last layer dtype='float32'"
    )
  if _ends_in_softmax(model):
    raise errors.UserError(f"{name} ends in a softmax; it must return logits")


def _check_trainable(model: keras.Model, name: str) -> None:
  """Raises a `UserError` if there is nothing to train."""
  if not model.trainable_variables:
    raise errors.UserError(f"{name} has no trainable weights")


def _ends_in_softmax(model: keras.Model) -> bool:
  """Whether the output is a softmax's: a layer's, or an operation's."""
  last = model.outputs[0]._keras_history.operation
  if isinstance(last, keras.Model):
    return _ends_in_softmax(last)
  # Layer and operation have the same name, and the latter no public one.
  is_softmax = type(last).__name__ == keras.layers.Softmax.__name__
  activation = getattr(last, "activation", None)
  return is_softmax or activation is keras.activations.softmax
