"""How rules look in plots: the same in all of them, and without colours too."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from lc_asgd_tf.reports import rules as rules_lib
from lc_asgd_tf.reports.record import SEQUENTIAL


class Style(NamedTuple):
  """The look of a rule's line.

  Attributes:
    color: of line and marker.
    linestyle: as Matplotlib writes it.
    marker: as Matplotlib writes it.
    linewidth: in points.
    markersize: in points.
  """

  color: str
  linestyle: str
  marker: str
  linewidth: float = 1.4
  markersize: float = 5.0

  def arguments(self, markers: bool) -> dict[str, object]:
    """Returns arguments of Matplotlib's `plot`."""
    arguments = self._asdict()
    if not markers:
      del arguments["marker"]
    return arguments


# Colours of Okabe and Ito, and two of Tol's, which colour-blind people tell
# apart.
_NAMED = {
  SEQUENTIAL: Style("#000000", "--", "."),
  "ssgd": Style("#8C8C8C", "-", "s"),
  "asgd": Style("#E69F00", "-", "o"),
  "staleness_aware": Style("#56B4E9", "-", "v"),
  "gap_aware": Style("#009E73", "-", "^"),
  "dana": Style("#CC79A7", "-", "P"),
  "dc_asgd_c": Style("#882255", "-", "<"),
  "dc_asgd": Style("#0072B2", "-", "D"),
  "lc_asgd": Style("#D55E00", "-", "*", 2.4, 10.0),
}
_COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_LINESTYLES = (":", "-.", "--")
_MARKERS = ("x", "+", "1", "2")


def styles(rules: Iterable[str]) -> Mapping[str, Style]:
  """Returns the style of each rule, in the order of legends.

  A rule of the library always has its own. The others share what is left by
  their place among all the rules, so ask for those of all plots at once.
  """
  result = {}
  others = 0
  for rule in rules_lib.ordered(rules):
    if rule in _NAMED:
      result[rule] = _NAMED[rule]
    else:
      result[rule] = Style(
        _COLORS[others % len(_COLORS)],
        _LINESTYLES[others // len(_COLORS) % len(_LINESTYLES)],
        _MARKERS[others % len(_MARKERS)],
        1.0,
      )
      others += 1
  return result
