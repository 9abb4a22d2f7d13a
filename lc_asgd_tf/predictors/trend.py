"""Holt's linear trend of the log loss, by version."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from lc_asgd_tf.predictors import forecast as forecast_lib
from lc_asgd_tf.predictors import journal


class Trend(NamedTuple):
  """y(v) = level + slope (v - origin); each shape=(...), float64.

  Attributes:
    level: the log loss at version `origin`.
    slope: the change of the log loss per version.
    origin: the newest version that was reported.
    count: how many reports it was made of.
  """

  level: tf.Tensor
  slope: tf.Tensor
  origin: tf.Tensor
  count: tf.Tensor


INITIAL = Trend(0.0, 0.0, 0.0, 0.0)


def at(trend: Trend, version: tf.Tensor) -> tf.Tensor:
  """Returns y at a version."""
  return trend.level + trend.slope * (version - trend.origin)


def trend_update(
  trend: Trend, report: journal.Report, num_workers: int
) -> Trend:
  """Returns the trend after a report (v, y), with e = y - y(v).

      level  <- level + slope (origin' - origin) + alpha e
      slope  <- slope + beta e
      origin <- origin' = max(origin, v)
      alpha  = min(0.2, 1 / (M / 2 + 4)),    beta = alpha^2 / 4

  beta makes the pair critically damped. A loss that is not finite changes
  nothing. Source: Holt 1957; that it is run by version and not by arrival is
  this project's choice, since reports arrive out of order.

  Args:
    trend: before the report; each shape=().
    report: each shape=().
    num_workers: M.
  """
  alpha = min(0.2, 1.0 / (num_workers / 2 + 4))
  y = forecast_lib.log_loss(report.loss)
  error = y - at(trend, report.version)
  origin = tf.maximum(trend.origin, report.version)
  following = Trend(
    at(trend, origin) + alpha * error,
    trend.slope + alpha**2 / 4 * error,
    origin,
    trend.count + 1.0,
  )
  beginning = Trend(
    y, tf.zeros_like(y), tf.identity(report.version), tf.ones_like(y)
  )
  first, known = trend.count == 0, tf.math.is_finite(y)
  return Trend(
    *(
      tf.where(known, tf.where(first, new, later), old)
      for new, later, old in zip(beginning, following, trend, strict=True)
    )
  )


def follow(
  trend: Trend,
  rows: tf.Tensor,
  first: tf.Tensor,
  last: tf.Tensor,
  num_workers: int,
  note: Callable[[tf.Tensor, Trend], object] = lambda number, trend: None,
) -> Trend:
  """Returns the trend after the reports [first, last), one by one.

  Args:
    trend: before them.
    rows: the journal's ring.
    first: shape=(), int64.
    last: shape=(), int64.
    num_workers: M.
    note: called with how many reports there are by then, and the trend.
  """

  def take(number, *trend):
    report = journal.read(rows, number)
    trend = trend_update(Trend(*trend), report, num_workers)
    note(number + 1, trend)
    return number + 1, *trend

  _, *trend = tf.while_loop(
    lambda number, *_: number < last, take, (first, *trend)
  )
  return Trend(*trend)
