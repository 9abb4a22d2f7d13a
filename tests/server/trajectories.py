"""Asynchronous runs of a small quadratic, and what the equations say of them.

`CASES` is a table: rules x momentum x orders of pulls and pushes. Any host (a
server, Keras's `fit`, a cluster) can replay a case and must get the weights
that `simulate` gets. `simulate` and the rules below are written from the
equations, in NumPy and float64; they use nothing of the library.

The model has the weights w, in two variables. Push number i has its own
curvatures k_i, as if they were its minibatch:

    loss = 1/2 sum(k_i w^2),    gradient = k_i w.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lc_asgd_tf import compensation

NUM_WORKERS = 2
LEARNING_RATE = 0.1
SHAPES = ((3,), (2, 2))
INITIAL = np.array([1.0, -2.0, 0.5, 1.5, -1.0, 0.25, 2.0])
_CURVATURES = np.array([1.0, 0.5, 2.0, 0.25, 1.5, 3.0, 0.75])
# Minibatches differ in scale and, every other one, in which weight they bend.
_SCALES = (1.0, 1.2, 0.7, 1.1, 0.9, 1.3, 0.8, 1.0, 1.25, 0.6)


class Event(NamedTuple):
  """A worker pulls; or it pushes, and pulls again with the server's answer."""

  action: str
  worker: int


PULL_0, PULL_1 = Event("pull", 0), Event("pull", 1)
PUSH_0, PUSH_1 = Event("push", 0), Event("push", 1)

# Everyone pulls once and then only pushes, so that every host can replay it.
INTERLEAVED = (
  *(PULL_0, PULL_1, PUSH_0, PUSH_1, PUSH_1, PUSH_0, PUSH_1, PUSH_1, PUSH_1),
  *(PUSH_0, PUSH_0, PUSH_1),
)
INTERLEAVED_STALENESS = (0, 1, 0, 2, 1, 0, 0, 3, 0, 2)

# Worker 1 comes late; worker 0 gives up its step and pulls anew.
REPULLED = (
  *(PULL_0, PUSH_0, PUSH_0, PULL_1, PUSH_0, PUSH_0, PUSH_1, PUSH_1),
  *(PULL_0, PUSH_1, PUSH_0),
)
REPULLED_STALENESS = (0, 0, 0, 0, 2, 0, 0, 1)


class Line(NamedTuple):
  """A forecast of the log loss: yhat(v) = level + slope v."""

  level: float
  slope: float

  def forecast(self, version: int) -> tuple[float, float, float, float]:
    """The (level, slope, origin, drawn) of a line drawn at this version."""
    return self.level, self.slope, 0.0, float(version)


class Push(NamedTuple):
  """All that the server knows of a push when it arrives.

  Attributes:
    g: the gradient, taken at the snapshot.
    d: the weights now minus the snapshot.
    tau: the staleness.
    ms: MS, updated with g.
    delta: the predicted change of the loss from the snapshot to now.
    typical_loss: exp of the average log loss, this push included.
    step_size: root mean square of the latest step of all weights.
    loss: what the worker reported.
    severity: the worst promise so far over what is allowed now.
  """

  g: np.ndarray
  d: np.ndarray
  tau: int
  ms: np.ndarray
  delta: float
  typical_loss: float
  step_size: float
  loss: float
  severity: float


class Case(NamedTuple):
  """One row of the table.

  Attributes:
    name: unique.
    rule: the library's.
    update: u of a `Push`, by the equations.
    momentum: of the inner SGD.
    line: what the loss predictor is made to say; None: it says nothing.
    events: the order of pulls and pushes.
    keeps_momentum: whether SGD keeps all of its momentum.
  """

  name: str
  rule: compensation.Compensation
  update: Callable[[Push], np.ndarray]
  momentum: float
  line: Line | None = None
  events: Sequence[Event] = INTERLEAVED
  keeps_momentum: bool = True

  def simulate(
    self, update: Callable[[Push], np.ndarray] | None = None
  ) -> list["Step"]:
    """One step per push, by the case's own update or by another one."""
    return simulate(
      update or self.update,
      self.momentum,
      self.line,
      self.events,
      keeps_momentum=self.keeps_momentum,
    )


class Step(NamedTuple):
  """What a push was, and the weights after it."""

  worker: int
  staleness: int
  loss: float
  weights: np.ndarray


def curvatures(push: int) -> np.ndarray:
  """k_i of push number i, one per weight."""
  k = _CURVATURES * _SCALES[push]
  k[push % len(k)] *= 1.5
  return k


def loss(weights: np.ndarray, k: np.ndarray) -> float:
  """1/2 sum(k w^2)."""
  return float(0.5 * np.sum(k * weights**2))


def gradient(weights: np.ndarray, k: np.ndarray) -> np.ndarray:
  """Its gradient."""
  return k * weights


def split(vector: np.ndarray) -> list[np.ndarray]:
  """The parts of a vector of all weights that belong to each variable."""
  ends = np.cumsum([np.prod(shape) for shape in SHAPES])
  parts = np.split(vector, ends[:-1])
  return [p.reshape(s) for p, s in zip(parts, SHAPES, strict=True)]


def asgd(push: Push) -> np.ndarray:
  """g."""
  return push.g


def staleness_aware(push: Push) -> np.ndarray:
  """g / max(tau, 1)."""
  return push.g / max(push.tau, 1)


def dc_asgd_c(lam: float) -> Callable[[Push], np.ndarray]:
  """g + lam g*g*d."""
  return lambda push: push.g + lam * push.g * push.g * push.d


def dc_asgd_a(lam_0: float) -> Callable[[Push], np.ndarray]:
  """g + lam_0 / sqrt(MS + 1e-7) g*g*d."""

  def update(push):
    lam = lam_0 / np.sqrt(push.ms + 1e-7)
    return push.g + lam * push.g * push.g * push.d

  return update


def gap_aware(push: Push) -> np.ndarray:
  """g / (1 + abs(d) / C); before the first step nothing has moved."""
  gap = np.abs(push.d) / push.step_size if push.step_size else 0.0
  return push.g / (1 + gap)


def lc_asgd(
  ratio: float | None = None,
  cap: bool = True,
  brake: float = 5.0,
  window: bool = True,
) -> Callable[[Push], np.ndarray]:
  """g bent by D d until the predicted loss fits; capped, braked, scaled."""

  def update(push):
    g, d = push.g, push.d
    D = push.ms + 1e-7
    u = g
    caution = push.severity**2 / (1 + push.severity**2) if window else 1
    if g @ d < 0:
      r = ratio
      if r is None:
        r = np.clip(push.delta / (g @ d), 0, 1)
        share = -(g @ d) / (push.typical_loss + 1e-3)
        r = 1 - (1 - r) * share / (share + 0.05) * caution
      u = g + 2 * (1 - r) * -(g @ d) / (d @ (D * d) + 1e-20) * D * d
    if cap and np.linalg.norm(u) > np.linalg.norm(g):
      u = u * np.linalg.norm(g) / np.linalg.norm(u)
    rise = max(push.delta, 0) / (push.typical_loss + 1e-3)
    u = u / (1 + brake * caution * rise)
    if window:
      u = u * min(1, (push.loss + 1e-3) / (abs(g @ d) + 1e-20))
    return u

  update.has_window = window
  return update


class Window:
  """T of M workers, by the equations."""

  def __init__(self) -> None:
    self.log_size = self.promise = self.loss = self.change = 0.0
    self.first = []
    self.pushes, self.gave_way, self.worst = 0, False, 0.0

  def after(self, promise: float, loss: float, change: float) -> float:
    """Takes in abs(g.d), l and Delta of a push; returns T."""
    m = NUM_WORKERS
    # Fewer than 16 workers are taken for 16, except where T is bounded.
    paced = max(m, 16)
    step = max(2 / paced, 1 / (self.pushes + 1))
    self.promise += step * (promise - self.promise)
    self.loss += step * (loss - self.loss)
    self.change += 1 / paced * (change - self.change)
    scale = self.loss + 1e-3
    if len(self.first) < paced:
      self.first.append(loss)
    gone = max(1 - scale / (np.mean(self.first) + 1e-3), 0)
    share = max(4 * np.sqrt(max(-self.change, 0) / scale), 3 * gone**2)
    share = np.clip(share, 0.2, 1)
    promised = self.promise / scale
    room = np.clip(np.log(share / (promised + 1e-20)), -1, 1)
    if room < 0 and self.pushes > m:
      self.gave_way = True
    self.pushes += 1
    # What it would have been with all of the learning rate.
    self.worst = max(self.worst, promised * m / np.exp(self.log_size))
    self.severity = self.worst / share
    fast = np.clip(2 * share / (self.worst + 1e-20), 1, 8)
    start = fast if self.pushes > paced else 1
    growth = (0.25 if self.gave_way else start) / 64
    rate = growth if room > 0 else 2 / paced
    self.log_size += np.log(2) * rate * room
    self.log_size = np.clip(self.log_size, 0, np.log(m))
    return np.exp(self.log_size)


def simulate(
  update: Callable[[Push], np.ndarray],
  momentum: float = 0.0,
  line: Line | None = None,
  events: Sequence[Event] = INTERLEAVED,
  *,
  initial: np.ndarray = INITIAL,
  curvatures: Callable[[int], np.ndarray] = curvatures,
  learning_rate: float = LEARNING_RATE,
  keeps_momentum: bool = True,
) -> list[Step]:
  """Replays the events; returns one step per push."""
  longer = 1.0
  if not keeps_momentum:
    left = max(0, 1 - NUM_WORKERS * (1 - momentum))
    longer = (1 - left) / (1 - momentum)
    momentum = left
  w = np.array(initial, np.float64)
  velocity = np.zeros_like(w)
  ms = np.zeros_like(w)
  average, pace = 0.0, min(0.2, 1 / (NUM_WORKERS / 2 + 4))
  window = Window()
  snapshots, pulled = {}, {}
  steps = []
  for action, m in events:
    t = len(steps)
    if action == "push":
      k = curvatures(t)
      g, reported = gradient(snapshots[m], k), loss(snapshots[m], k)
      ms = 0.95 * ms + 0.05 * g * g
      delta = 0.0
      if line is not None:
        now, then = (line.level + line.slope * v for v in (t, pulled[m]))
        highest = max(line.level, 0) + 3
        delta = np.exp(min(now, highest)) - np.exp(min(then, highest))
      average += max(pace, 1 / (t + 1)) * (np.log(reported + 1e-3) - average)
      tau = t - pulled[m]
      d = w - snapshots[m]
      step_size = np.sqrt(np.mean(velocity**2))
      size = window.after(abs(g @ d), reported, delta)
      typical = np.exp(average)
      severity = window.severity
      u = update(
        Push(g, d, tau, ms, delta, typical, step_size, reported, severity)
      )
      rate = learning_rate
      if getattr(update, "has_window", False):
        rate *= size / NUM_WORKERS
      most = 4 * (reported + 1e-3) / (g @ g + 1e-20) * (1 - momentum)
      rate = max(rate, min(rate * longer, most))
      velocity = momentum * velocity - rate * u
      w = w + velocity
      steps.append(Step(m, tau, reported, w.copy()))
    snapshots[m], pulled[m] = w.copy(), len(steps)
  return steps


def simulate_dana(momentum: float) -> list[np.ndarray]:
  """Replays `INTERLEAVED` by DANA's equations; the weights after each push."""
  w = INITIAL.copy()
  velocities = np.zeros((NUM_WORKERS, len(w)))
  snapshots, after = {}, []
  for action, m in INTERLEAVED:
    if action == "push":
      g = gradient(snapshots[m], curvatures(len(after)))
      velocities[m] = momentum * velocities[m] + g
      w = w - LEARNING_RATE * velocities[m]
      after.append(w)
    snapshots[m] = w - LEARNING_RATE * momentum * velocities.sum(axis=0)
  return after


# The predicted change is part of what the gradient promised, or all of it and
# more; the loss is predicted to rise; to rise beyond the bound of a forecast.
FALLING = Line(level=1.2, slope=-0.16)
RISING = Line(level=0.5, slope=0.07)
DIVERGING = Line(level=-0.5, slope=0.5)

_RULES = (
  ("asgd", compensation.Uncompensated(), asgd, None),
  ("staleness_aware", compensation.StalenessAware(), staleness_aware, None),
  ("gap_aware", compensation.GapAware(), gap_aware, None),
  (
    "dc_asgd_c",
    compensation.DelayCompensatedConstant(0.04),
    dc_asgd_c(0.04),
    None,
  ),
  ("dc_asgd_a", compensation.DelayCompensatedAdaptive(), dc_asgd_a(2.0), None),
  (
    "lc_asgd_ratio_0",
    compensation.LossCompensated(ratio=0.0, window=False),
    lc_asgd(0.0, window=False),
    None,
  ),
  (
    "lc_asgd_ratio_half",
    compensation.LossCompensated(ratio=0.5, window=False),
    lc_asgd(0.5, window=False),
    None,
  ),
  (
    "lc_asgd_ratio_1",
    compensation.LossCompensated(ratio=1.0, window=False),
    lc_asgd(1.0, window=False),
    None,
  ),
  (
    "lc_asgd_ratio_0_window",
    compensation.LossCompensated(ratio=0.0),
    lc_asgd(0.0),
    None,
  ),
  ("lc_asgd_falling", compensation.LossCompensated(), lc_asgd(), FALLING),
  ("lc_asgd_rising", compensation.LossCompensated(), lc_asgd(), RISING),
)

CASES = tuple(
  Case(
    f"{name}_momentum_{momentum}",
    rule,
    update,
    momentum,
    line,
    keeps_momentum=not name.startswith("lc_asgd"),
  )
  for name, rule, update, line in _RULES
  for momentum in (0.0, 0.9)
) + (
  Case(
    "lc_asgd_keeps_momentum",
    compensation.LossCompensated(keep_momentum=True),
    lc_asgd(),
    0.9,
    FALLING,
  ),
  Case(
    "lc_asgd_uncapped",
    compensation.LossCompensated(cap=False, brake=0.0, window=False),
    lc_asgd(cap=False, brake=0.0, window=False),
    0.0,
  ),
  Case(
    "lc_asgd_diverging",
    compensation.LossCompensated(brake=0.5, window=False),
    lc_asgd(brake=0.5, window=False),
    0.9,
    DIVERGING,
    keeps_momentum=False,
  ),
  Case(
    "dc_asgd_a_repulled",
    compensation.DelayCompensatedAdaptive(),
    dc_asgd_a(2.0),
    0.9,
    events=REPULLED,
  ),
  Case(
    "lc_asgd_repulled",
    compensation.LossCompensated(),
    lc_asgd(),
    0.9,
    FALLING,
    REPULLED,
    keeps_momentum=False,
  ),
)
