"""What the optimizers of one rule each have in common."""

import keras

from lc_asgd_tf import compensation as compensation_lib
from lc_asgd_tf import delays as delays_lib
from lc_asgd_tf import predictors
from lc_asgd_tf.optimizers import async_optimizer


class RuleOptimizer(async_optimizer.AsyncOptimizer):
  """An `AsyncOptimizer` of a fixed rule, SGD by default.

  Args:
    learning_rate: a float, a schedule or a callable, as in
      `keras.optimizers.SGD`.
    momentum: of SGD.
    nesterov: of SGD.
    num_workers: see `AsyncOptimizer`.
    delays: see `AsyncOptimizer`.
    seed: see `AsyncOptimizer`.
    inner_optimizer: another inner optimizer in place of SGD, which then has
      the learning rate and everything else.
    loss_predictor: see `AsyncOptimizer`.
    compensation: the rule, from subclasses that have no `RULE`.
    name: as in Keras.
    **kwargs: further arguments of `keras.optimizers.SGD`, such as
      `weight_decay` or `clipnorm`.

  Raises:
    TypeError: if a class that has a `RULE` is given another one.
    ValueError: if there is an `inner_optimizer`, and arguments of one.
  """

  RULE: type[compensation_lib.Compensation]
  """The rule of a subclass, if it takes no arguments."""

  def __init__(
    self,
    learning_rate=0.01,
    momentum: float = 0.0,
    nesterov: bool = False,
    num_workers: int = 1,
    delays: delays_lib.Delays | None = None,
    seed: int = 0,
    *,
    inner_optimizer: keras.optimizers.Optimizer | None = None,
    loss_predictor: str | predictors.LossPredictor = "lstm",
    compensation: compensation_lib.Compensation | None = None,
    name: str | None = None,
    **kwargs,
  ) -> None:
    if inner_optimizer is None:
      inner_optimizer = keras.optimizers.SGD(
        learning_rate, momentum=momentum, nesterov=nesterov, **kwargs
      )
    elif learning_rate != 0.01 or momentum or nesterov or kwargs:
      raise ValueError(
        "learning_rate, momentum, nesterov and further arguments belong to the "
        "inner optimizer; pass either them or inner_optimizer."
      )
    if compensation is None:
      compensation = self.RULE()
    elif hasattr(self, "RULE"):
      raise TypeError(
        f"{type(self).__name__} has a rule of its own: for another one, use "
        "lc_asgd_tf.AsyncOptimizer(inner_optimizer, compensation)."
      )
    super().__init__(
      inner_optimizer,
      compensation,
      loss_predictor=loss_predictor,
      num_workers=num_workers,
      delays=delays,
      seed=seed,
      name=name,
    )

  def get_config(self):
    """Returns the constructor's arguments, serialized.

    The rule is not among them: its arguments are the class's own.
    """
    config = super().get_config()
    del config["compensation"]
    return config
