"""Rules and controls by name, as a comparison runs them."""

import dataclasses
from collections.abc import Callable, Sequence

from lc_asgd_tf import compensation, errors
from lc_asgd_tf.comparison import cell as cell_lib
from lc_asgd_tf.comparison import controls


@dataclasses.dataclass(frozen=True)
class Rule:
  """How a name becomes an optimizer.

  Attributes:
    compensation: takes the momentum, returns the rule.
    loss_predictor: name of a loss predictor.
    oracle: whether the rule sees the true change of the loss.
    has_momentum: whether the rule has the momentum, and SGD none.
  """

  compensation: Callable[[float], compensation.Compensation]
  loss_predictor: str = "lstm"
  oracle: bool = False
  has_momentum: bool = False


def _fixed(factory, **arguments):
  return lambda momentum: factory(**arguments)


def _lc(predictor="lstm", oracle=False, **arguments):
  return Rule(
    _fixed(compensation.LossCompensated, **arguments), predictor, oracle
  )


RULES: dict[str, Rule] = {
  name: Rule(_fixed(rule)) for name, rule in compensation.RULES.items()
} | {"dana": Rule(compensation.LookAhead, has_momentum=True)}
"""The rules of `lc_asgd_tf`; dc_asgd is the adaptive form."""

CONTROLS: dict[str, Rule] = {
  "lc_asgd_holt": _lc("holt"),
  "lc_asgd_persistence": _lc("persistence"),
  "lc_asgd_oracle": _lc("holt", oracle=True),
  "lc_asgd_ahead": _lc(horizon="predicted"),
  "lc_asgd_r0": _lc(ratio=0.0),
  "lc_asgd_r0.5": _lc(ratio=0.5),
  "lc_asgd_r1": _lc(ratio=1.0),
  "lc_asgd_no_cap": _lc(cap=False),
  "lc_asgd_no_brake": _lc(brake=0.0),
  "lc_asgd_no_window": _lc(window=False),
  "lc_asgd_keep_momentum": _lc(keep_momentum=True),
  "lc_asgd_single_draw": Rule(_fixed(controls.SingleDrawMetric)),
  "lc_asgd_first": Rule(
    _fixed(controls.SingleDrawMetric, window=False, keep_momentum=True)
  ),
  "lc_asgd_shuffled": Rule(_fixed(controls.ShuffledRatio)),
  "loss_scaled": Rule(_fixed(controls.LossScaled)),
} | {
  f"dc_asgd_cap_{strength}": Rule(
    _fixed(controls.CappedDelayCompensated, lambda_0=float(strength))
  )
  for strength in (2, 8, 30, 100)
}
"""What the rules must be better than, and what they are made of."""

SEQUENTIAL = {cell_lib.SEQUENTIAL: Rule(_fixed(compensation.Uncompensated))}

_GROUPS = {"all": RULES, "controls": CONTROLS}

_USERS: dict[str, Rule] = {}


def register(name: str, rule: Rule) -> None:
  """Makes a rule of the user's own known to comparisons by name.

  Call it in a module that `lc-asgd-compare --import` names, for every process
  of the comparison needs to know the rule.

  Raises:
    UserError: if the name means something already, or the rule is none.
  """
  if not isinstance(rule, Rule):
    raise errors.UserError(
      f"The rule {name!r} must be a comparison.Rule, got {rule!r}."
    )
  if name in SEQUENTIAL | RULES | CONTROLS | _GROUPS:
    raise errors.UserError(
      f"There is a rule {name!r} already; use another name."
    )
  _USERS[name] = rule


def known() -> dict[str, Rule]:
  """Returns all rules by name: ours, the controls and the user's."""
  return SEQUENTIAL | RULES | CONTROLS | _USERS


def expand(names: Sequence[str]) -> list[str]:
  """Returns rules by name, with `all` and `controls` spelled out.

  Raises:
    UserError: if there is no such rule.
  """
  # A comparison adds the sequential run by itself.
  comparable = RULES | CONTROLS | _USERS
  expanded = []
  for name in names:
    if name not in _GROUPS and name not in comparable:
      raise errors.UserError(
        f"there is no rule {name!r}: use all, controls, or some of "
        f"{', '.join(comparable)}."
      )
    expanded += _GROUPS.get(name, [name])
  return list(dict.fromkeys(expanded))


def may_use_momentum(names: Sequence[str]) -> bool:
  """Returns whether one of these rules does something with the momentum.

  A user's rule is given it, and may.

  Args:
    names: of rules, as `expand` returns them.
  """
  return any(name in _USERS or known()[name].has_momentum for name in names)
