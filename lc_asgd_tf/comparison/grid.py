"""Which cells a comparison consists of."""

import dataclasses
from collections.abc import Sequence

from lc_asgd_tf.comparison import cell as cell_lib


@dataclasses.dataclass(frozen=True)
class Grid:
  """All combinations of what a comparison varies.

  Attributes:
    base: what the cells have in common.
    rules: names of rules and controls.
    num_workers: how many to simulate; 1 is the sequential run, which is the
      same for all rules and all delays.
    delays: names of delay models, or paths of traces.
    learning_rates: of the inner optimizer.
    seeds: of initial weights, order of the data, and delays.
  """

  base: cell_lib.Cell
  rules: Sequence[str]
  num_workers: Sequence[int]
  delays: Sequence[str]
  learning_rates: Sequence[float]
  seeds: Sequence[int]

  def cells(self) -> list[cell_lib.Cell]:
    """Returns the cells; those that share a program stand together."""
    cells = []
    for workers in self.num_workers:
      sequential = workers == 1
      for rule in (cell_lib.SEQUENTIAL,) if sequential else self.rules:
        for delays in self.delays[:1] if sequential else self.delays:
          for learning_rate in self.learning_rates:
            for seed in self.seeds:
              cells.append(
                dataclasses.replace(
                  self.base,
                  rule=rule,
                  num_workers=workers,
                  delays=cell_lib.NO_DELAYS if sequential else delays,
                  learning_rate=learning_rate,
                  seed=seed,
                )
              )
    return cells


def programs(
  cells: Sequence[cell_lib.Cell],
) -> list[list[cell_lib.Cell]]:
  """Returns the cells in groups that share a compiled train step."""
  groups = {}
  for cell in cells:
    groups.setdefault(cell.program, []).append(cell)
  return list(groups.values())
