"""The Keras optimizer around a compensation rule."""

import warnings

import keras
import tensorflow as tf
from keras.saving import deserialize_keras_object, serialize_keras_object

from lc_asgd_tf import arguments, errors, predictors
from lc_asgd_tf import compensation as compensation_lib
from lc_asgd_tf import delays as delays_lib
from lc_asgd_tf.optimizers import simulation
from lc_asgd_tf.server import learning_rates


def _of_inner_optimizer(name: str) -> property:
  """Returns a property that is one of the inner optimizer."""

  def get_value(self):
    return getattr(self.inner_optimizer, name)

  def set_value(self, value):
    # Keras sets it before there is an inner optimizer.
    if "inner_optimizer" in self.__dict__:
      setattr(self.inner_optimizer, name, value)

  return property(get_value, set_value, doc=f"The inner optimizer's `{name}`.")


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class AsyncOptimizer(keras.optimizers.Optimizer):
  """Asynchronous SGD with any rule and any inner optimizer.

  A server owns the weights w. Each worker pulls a snapshot of them, computes a
  gradient there, and pushes it; meanwhile others have pushed. The rule turns
  the late gradient g into u, and the inner optimizer applies u to w.

      w_m <- w                                 pull
      g, l = gradient and loss at w_m          compute
      u = rule(g, w - w_m, tau, predicted loss)
      w <- inner optimizer(w, u)               push

  `AsyncTrainer` runs that on a parameter-server cluster. Plain
  `keras.Model.fit` simulates `num_workers` workers on one device: the model
  holds the snapshot of the worker whose turn it is, so that validation and
  checkpoints need `lc_asgd_tf.callbacks.ServerWeights`. With one worker nothing
  is ever late, and the update is that of the inner optimizer, bit for bit.

  Example:
  ```python
  model.compile(
    optimizer=lc_asgd_tf.AsyncOptimizer(
      keras.optimizers.AdamW(1e-3), lc_asgd_tf.compensation.LossCompensated()
    ),
    loss="sparse_categorical_crossentropy",
  )
  ```

  Args:
    inner_optimizer: a `keras.optimizers.Optimizer`; it has the learning rate,
      the momentum, weight decay and clipping, as anywhere in Keras.
    compensation: the rule, an `lc_asgd_tf.compensation.Compensation`; None
      applies late gradients as they are (ASGD).
    loss_predictor: "lstm", "holt", "persistence" or an
      `lc_asgd_tf.predictors.LossPredictor`; read by rules that use the
      predicted loss.
    num_workers: M, of the simulation; on a cluster, which has as many as it
      has, leave it at 1.
    delays: how long simulated workers take, an `lc_asgd_tf.delays.Delays`; None
      for `Homogeneous(seed=seed)`.
    seed: of the delays, if these are None.
    name: as in Keras.

  Raises:
    TypeError: if an argument is of another type than these.
    ValueError: if `inner_optimizer` cannot be hosted on a server, there is no
      such `loss_predictor`, `num_workers` is less than 1, or `seed` negative.
  """

  def __init__(
    self,
    inner_optimizer: keras.optimizers.Optimizer,
    compensation: compensation_lib.Compensation | None = None,
    loss_predictor: str | predictors.LossPredictor = "lstm",
    num_workers: int = 1,
    delays: delays_lib.Delays | None = None,
    seed: int = 0,
    name: str | None = None,
  ) -> None:
    num_workers = arguments.check_int("num_workers", num_workers, least=1)
    seed = arguments.check_int("seed", seed, least=0)
    if compensation is not None and not isinstance(
      compensation, compensation_lib.Compensation
    ):
      raise TypeError(
        "compensation must be an lc_asgd_tf.compensation.Compensation, got "
        f"{compensation!r}."
      )
    if delays is not None and not isinstance(delays, delays_lib.Delays):
      raise TypeError(
        f"delays must be an lc_asgd_tf.delays.Delays, got {delays!r}."
      )
    if isinstance(inner_optimizer, (str, dict)):
      inner_optimizer = keras.optimizers.get(inner_optimizer)
    if not isinstance(inner_optimizer, keras.optimizers.Optimizer):
      raise TypeError(
        "inner_optimizer must be a keras.optimizers.Optimizer, got "
        f"{inner_optimizer!r}."
      )
    for refused in (AsyncOptimizer, keras.optimizers.LossScaleOptimizer):
      if isinstance(inner_optimizer, refused):
        raise ValueError(
          f"{refused.__name__} cannot be the inner optimizer of "
          f"{type(self).__name__}; pass the optimizer that it wraps."
        )
    # The learning rate is the inner optimizer's.
    super().__init__(learning_rate=0.0, name=name)
    self.inner_optimizer = inner_optimizer
    self._accumulation = inner_optimizer.gradient_accumulation_steps
    self.compensation = compensation or compensation_lib.Uncompensated()
    self.loss_predictor = predictors.get(loss_predictor)
    self._num_workers = num_workers
    self.delays = delays
    self.seed = seed
    self._simulation = None
    self._loss = None
    # Set by the callback that loads the server's weights when they are due.
    self.shows_server_weights = False

  def build(self, variables: list[keras.Variable]) -> None:
    """Creates the state for these variables, with their values as w."""
    if self.built:
      return
    # Keras may build while it traces; state initialised there would be lost.
    with tf.init_scope():
      if type(self.inner_optimizer).__name__ == "ScheduleFreeAdamW" and not all(
        variable.value.is_initialized() for variable in variables
      ):
        raise errors.UserError(
          "ScheduleFreeAdamW begins with the weights, and the model has none "
          "before it is called: give it a keras.Input, or call it before fit."
        )
      if self.num_workers == 1:
        self.inner_optimizer.build(variables)
      else:
        self._simulation = simulation.Simulation(self, variables)
        # So that `tf.train.Checkpoint` finds it.
        self._simulation_state = tf.train.Checkpoint(
          variables=[variable.value for variable in self._simulation.variables]
        )
    super().build(variables)

  def apply(self, grads, trainable_variables=None) -> None:
    """Applies the gradients of the worker whose turn it is.

    With several workers, the variables hold its snapshot; after the call they
    hold that of the next.

    Args:
      grads: one per variable.
      trainable_variables: the variables; None for those of `build`.

    Raises:
      ValueError: if the rule needs the loss and `scale_loss` has not seen it,
        if there are other variables than in `build`, or if there was no
        `build` and there are none.
    """
    if not self.built and trainable_variables is None:
      raise ValueError(
        "The optimizer is not built: pass the variables, too, or call "
        "`build(variables)` first."
      )
    if not self.built:
      self.build(list(trainable_variables))
    if self._simulation is None:
      self.inner_optimizer.apply(grads, trainable_variables)
    else:
      self._simulation.step(grads, trainable_variables)

  def apply_gradients(self, grads_and_vars):
    """Applies pairs of gradients and variables; returns `iterations`."""
    super().apply_gradients(grads_and_vars)
    return self.iterations

  @property
  def num_workers(self) -> int:
    """M, of the simulation; it can be set until the optimizer is built.

    Raises:
      ValueError: if it is set later.
    """
    return self._num_workers

  @num_workers.setter
  def num_workers(self, num_workers: int) -> None:
    if self.built and num_workers != self._num_workers:
      raise errors.UserError(
        f"The optimizer is built for num_workers={self._num_workers}: compile "
        "the model with a new one."
      )
    self._num_workers = arguments.check_int("num_workers", num_workers, least=1)

  @property
  def simulation(self) -> simulation.Simulation | None:
    """The simulated server and workers; None with one worker."""
    return self._simulation

  def accumulation_steps(self, num_workers: int) -> int | None:
    """Returns how many gradients the inner optimizer makes one update of.

    Args:
      num_workers: M, whose gradients a synchronous rule averages.
    """
    if self.compensation.synchronous and num_workers > 1:
      return num_workers * (self._accumulation or 1)
    return self._accumulation

  def new_inner_optimizer(self, num_workers: int) -> keras.optimizers.Optimizer:
    """Returns an inner optimizer of the same configuration, not built.

    The loss scale is left behind: workers undo it before they push, since a
    rule must see gradients as they are.

    Args:
      num_workers: M, whose gradients a synchronous rule averages.
    """
    inner = self.inner_optimizer
    config = inner.get_config()
    if learning_rates.has_schedule(inner):
      # As it is: not every one can be serialized.
      config["learning_rate"] = inner._learning_rate
    elif not isinstance(inner._learning_rate, keras.Variable):
      # What a callable reads is in this process.
      config["learning_rate"] = float(inner.learning_rate)
    clone = type(inner).from_config(config)
    clone.loss_scale_factor = None
    clone.gradient_accumulation_steps = self.accumulation_steps(num_workers)
    # Keras keeps these out of the configuration.
    for name in (
      "_exclude_from_weight_decay",
      "_exclude_from_weight_decay_pattern",
    ):
      if hasattr(inner, name):
        setattr(clone, name, getattr(inner, name))
    return clone

  def exclude_from_weight_decay(self, var_list=None, var_names=None) -> None:
    """Exempts variables from the inner optimizer's weight decay."""
    self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

  @property
  def variables(self) -> list[keras.Variable]:
    """The optimizer's own variables, then those of server and workers."""
    if self._simulation is None:
      return self._variables + self.inner_optimizer.variables
    return self._variables + self._simulation.variables

  def set_weights(self, weights) -> None:
    """Sets `variables`, one value each.

    Raises:
      ValueError: if there are more or fewer, or of other shapes.
    """
    variables = self.variables
    if len(weights) != len(variables):
      raise ValueError(
        f"{type(self).__name__} has {len(variables)} variables, got "
        f"{len(weights)} values."
      )
    for variable, weight in zip(variables, weights, strict=True):
      variable.assign(weight)

  def load_own_variables(self, store) -> None:
    """Loads the state, unless it is of something else, as Keras does."""
    saved = [store[str(i)].shape for i in range(len(store.keys()))]
    if saved != [tuple(variable.shape) for variable in self.variables]:
      warnings.warn(
        f"Skipping variable loading for optimizer '{self.name}': the saved one "
        "is of other variables, or another rule or number of workers.",
        stacklevel=2,
      )
      return
    super().load_own_variables(store)

  @property
  def learning_rate(self):
    """The inner optimizer's learning rate."""
    return self.inner_optimizer.learning_rate

  @learning_rate.setter
  def learning_rate(self, learning_rate) -> None:
    self.inner_optimizer.learning_rate = learning_rate

  @property
  def iterations(self):
    """The inner optimizer's count of updates."""
    return self.inner_optimizer.iterations

  loss_scale_factor = _of_inner_optimizer("loss_scale_factor")
  weight_decay = _of_inner_optimizer("weight_decay")
  clipnorm = _of_inner_optimizer("clipnorm")
  clipvalue = _of_inner_optimizer("clipvalue")
  global_clipnorm = _of_inner_optimizer("global_clipnorm")

  def scale_loss(self, loss):
    """Takes note of the loss; scales it as the inner optimizer asks for."""
    if self.num_workers > 1:
      self._loss = loss
    return self.inner_optimizer.scale_loss(loss)

  def check_loss(self, loss: float) -> None:
    """Warns of an epoch's loss that the rule can make nothing of."""
    if loss < 0 and self.compensation.uses_prediction:
      warnings.warn(
        f"The loss is negative, and {type(self).__name__} takes small steps "
        "where it does not know how far the loss can fall: add a constant to "
        "it.",
        stacklevel=2,
      )

  def finalize_variable_values(self, var_list) -> None:
    """Gives the model the server's weights at the end of training.

    The worker whose turn it is pulls them, so that training may go on.
    """
    if self._simulation is not None:
      self._simulation.finalize(var_list)
    elif self.built:
      self.inner_optimizer.finalize_variable_values(var_list)

  def get_config(self) -> dict[str, object]:
    """Returns the constructor's arguments, serialized."""
    inner = serialize_keras_object(self.inner_optimizer)
    # As the user gave it; rounds are counted in `build`. Not every optimizer
    # has it among its constructor's arguments.
    if "gradient_accumulation_steps" in inner["config"]:
      inner["config"]["gradient_accumulation_steps"] = self._accumulation
    return {
      "name": self.name,
      "inner_optimizer": inner,
      "compensation": serialize_keras_object(self.compensation),
      "loss_predictor": serialize_keras_object(self.loss_predictor),
      "num_workers": self.num_workers,
      "delays": serialize_keras_object(self.delays),
      "seed": self.seed,
    }

  @classmethod
  def from_config(cls, config, custom_objects=None) -> "AsyncOptimizer":
    """Returns the optimizer that `get_config` described."""
    config = dict(config)
    for key in ("inner_optimizer", "compensation", "loss_predictor", "delays"):
      if isinstance(config.get(key), dict):
        config[key] = deserialize_keras_object(
          config[key], custom_objects=custom_objects
        )
    return cls(**config)
