"""Figures, axes and legends as all plots have them."""

import math
import os
from collections.abc import Sequence

import matplotlib.axes
import matplotlib.axis
import matplotlib.figure
import matplotlib.ticker
import numpy as np

from lc_asgd_tf import files

FONT_SIZE = 8.5
"""Of labels, in points."""

_DPI = 120
_MAX_COLUMNS = 3
# Values that differ by such a factor get a logarithmic axis.
_WIDE = 8.0


def new(
  panels: int,
  title: str,
  width: float = 4.6,
  height: float = 3.6,
  entries: int = 0,
) -> tuple[matplotlib.figure.Figure, Sequence[matplotlib.axes.Axes]]:
  """Returns a figure with panels in rows, as high as its legend needs."""
  columns = min(panels, _MAX_COLUMNS)
  rows = math.ceil(panels / columns)
  figure = matplotlib.figure.Figure(
    figsize=(width * columns + 1.5, max(height * rows, 0.18 * entries + 0.3)),
    layout="constrained",
  )
  grid = figure.subplots(rows, columns, squeeze=False).flatten()
  for axes in grid[panels:]:
    axes.remove()
  for axes in grid[:panels]:
    axes.grid(True, color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=FONT_SIZE)
    axes.xaxis.label.set_size(FONT_SIZE)
    axes.yaxis.label.set_size(FONT_SIZE)
  if panels == 1:
    grid[0].set_title(title, fontsize=10, parse_math=False)
  else:
    figure.suptitle(title, fontsize=10, parse_math=False)
  return figure, grid[:panels]


def legend(
  figure: matplotlib.figure.Figure, axes: matplotlib.axes.Axes
) -> None:
  """Puts the legend of the axes beside all axes of the figure."""
  handles, labels = axes.get_legend_handles_labels()
  figure.legend(
    handles, labels, loc="outside right upper", fontsize=8, frameon=False
  )


def set_scale(axes: matplotlib.axes.Axes, values: Sequence[float]) -> None:
  """Makes the vertical axis logarithmic if the values call for it."""
  values = np.array(values)
  values = values[np.isfinite(values)]
  if not values.size:
    return
  least, largest = values.min(), values.max()
  if least <= 0 or largest < _WIDE * least:
    axes.set_ylim(bottom=0)
    return
  axes.set_yscale("log")
  # Bands may reach down to 0, which is infinitely far away.
  axes.set_ylim(bottom=0.7 * least)
  label_decades(axes.yaxis, axes.get_ylim())


def drawn(axes: matplotlib.axes.Axes) -> np.ndarray:
  """Returns the heights of all points of all lines."""
  return np.concatenate([line.get_ydata() for line in axes.lines])


def label_decades(
  axis: matplotlib.axis.Axis, limits: tuple[float, float]
) -> None:
  """Puts plain numbers at a logarithmic axis: 1, 2, 5, 10 and so on."""
  decades = math.log10(limits[1] / limits[0])
  if decades < 1:
    digits = range(1, 10)
  elif decades < 3:
    digits = (1, 2, 5)
  else:
    digits = (1,)
  axis.set_major_locator(matplotlib.ticker.LogLocator(subs=digits))
  axis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
  axis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def save(
  figure: matplotlib.figure.Figure, path: str | os.PathLike[str]
) -> None:
  """Writes a figure as PNG, whole or not at all."""
  files.write(
    path,
    lambda partial: figure.savefig(
      partial, format="png", dpi=_DPI, bbox_inches="tight"
    ),
  )
