"""The window: how many updates may be on their way at full strength.

M workers have about M updates on their way to the server at any time, all of
which were computed at old weights. Where a learning rate is right for one
worker, M such updates can be too much: gradient descent with delay tau is
stable only up to a learning rate of about pi / (2 tau + 1) / curvature. The
window T scales the learning rate by T / M, and T is controlled as TCP controls
its congestion window: it starts at 1, doubles every M pushes at first, or every
64 if there are fewer workers, and gives way when it must. Where the whole
learning rate is seen to be harmless, it doubles faster. It is the learning rate
that is scaled, not the gradient, since Adam and its like divide by the size of
recent gradients and would undo it.

What it must give way to is known before the loss rises. The displacement
d = w - w_m promised to change the loss by g.d, and no displacement can take
away more than there is. On a quadratic, delayed descent is stable while it
promises less than pi times what lies above the minimum, and swings little while
it promises no more than that. How much lies above the minimum, nobody knows;
two things say that it is a large part of the loss:

- what is being delivered, the predicted change of the loss: a geometric mean
  of it and of the loss may be promised;
- what has been delivered, the part of the first loss that is gone: where most
  of it is, the rest can go as well.

What is promised and what may be says, too, whether delays do any harm at all:
see `severity`.

Source: this project's own; not in the paper's abstract.
"""

from typing import NamedTuple

import tensorflow as tf

from lc_asgd_tf.compensation import losses

# How much of the loss a displacement may promise: this times the geometric mean
# of 1 and the share that is predicted to be delivered, or the other times the
# square of the share of the first loss that is gone, within bounds.
_OF_THE_PREDICTED = 4.0
_OF_THE_GONE = 3.0
_LEAST_ALLOWED = 0.2
_MOST_ALLOWED = 1.0

# Doublings of the window per M pushes: before it first had to give way, after
# that, and while it gives way. What is measured is about 2 M pushes old, and
# faster growth would swing. It takes at least so many pushes to double, since
# momentum needs as many to show what a step does, whatever M is.
_SLOW_START = 1.0
_GROWTH = 0.25
_RETREAT = 2.0
_LEAST_TO_DOUBLE = 64

# The slow start is faster where the whole learning rate would have promised, at
# its worst so far, less than so many times what is allowed; so much at most.
_HARMLESS = 2.0
_FASTEST = 8.0

# Averages over M / 2 pushes; that of the predicted change, over M. The first
# loss is that of M pushes. Fewer workers than these are taken for so many: of
# a handful of pushes, the largest promise says nothing but that it is noise.
_PACE = 2.0
_CHANGE_PACE = 1.0
_FEWEST = 16


class Window(NamedTuple):
  """What is remembered from push to push; each shape=(), float32.

  Attributes:
    log_size: log T.
    promise: a moving average of |g.d|, in units of the loss.
    loss: of the minibatches' losses.
    change: of the predicted changes of the loss.
    first_loss: the mean of the first minibatches' losses.
    pushes: how many have been seen.
    gave_way: 1 once the window has had to, after the first round, else 0.
    worst: the most, so far, that the whole learning rate would have promised,
      the promise times M / T, as a share of the loss.
  """

  log_size: tf.Tensor
  promise: tf.Tensor
  loss: tf.Tensor
  change: tf.Tensor
  first_loss: tf.Tensor
  pushes: tf.Tensor
  gave_way: tf.Tensor
  worst: tf.Tensor


INITIAL = Window(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def read(signals: tf.Tensor) -> Window:
  """Returns the window that a rule's signals begin with."""
  return Window(*tf.unstack(signals[: len(INITIAL)]))


def allowed_share(
  loss: tf.Tensor, change: tf.Tensor, first_loss: tf.Tensor
) -> tf.Tensor:
  """Returns p; |g.d| may be p l on average.

      p = clip(max(4 sqrt(max(-Delta, 0) / l), 3 max(1 - l / l_0, 0)^2), 0.2, 1)

  Args:
    loss: l, averaged, shape=().
    change: Delta, averaged, shape=().
    first_loss: l_0, that of the first pushes, shape=().
  """
  loss, first_loss = losses.floored(loss), losses.floored(first_loss)
  delivered = tf.maximum(-change, 0.0) / loss
  gone = tf.maximum(1.0 - loss / first_loss, 0.0)
  share = tf.maximum(
    _OF_THE_PREDICTED * tf.sqrt(delivered), _OF_THE_GONE * gone * gone
  )
  return tf.clip_by_value(share, _LEAST_ALLOWED, _MOST_ALLOWED)


def window_update(
  window: Window,
  gd: tf.Tensor,
  loss: tf.Tensor,
  predicted_change: tf.Tensor,
  num_workers: int,
) -> Window:
  """Returns the window after a push.

      x     = clip(log(p l / average promise), -1, 1)
      log T <- clip(log T + log(2) rate x, 0, log M)

  where x > 0, with a rate of 1 / (4 max(M, 64)), and before the first x < 0 of

      s / max(M, 64),    s = clip(2 p / q, 1, 8)
      q <- max(q, average promise M / (T l))

  with s = 1 in the first max(M, 16) pushes; where x < 0, of 2 / max(M, 16).
  Averages are over max(M, 16) / 2 pushes, that of the predicted change over
  max(M, 16). An x < 0 in the first M + 1 pushes is not the first.

  Args:
    window: before the push.
    gd: g.d of this push, shape=().
    loss: l of this push, shape=().
    predicted_change: Delta of this push, shape=().
    num_workers: M.
  """
  round_size = max(num_workers, _FEWEST)
  # A loss that is not finite says nothing, and must not stay in the average.
  loss = tf.where(tf.math.is_finite(loss), tf.maximum(loss, 0.0), window.loss)
  pushes = window.pushes + 1.0
  step = tf.maximum(_PACE / round_size, 1.0 / pushes)
  promise = window.promise + step * (tf.abs(gd) - window.promise)
  average_loss = window.loss + step * (loss - window.loss)
  change = window.change + _CHANGE_PACE / round_size * (
    predicted_change - window.change
  )
  first_loss = tf.where(
    pushes <= round_size,
    window.first_loss + (loss - window.first_loss) / pushes,
    window.first_loss,
  )
  allowed = allowed_share(average_loss, change, first_loss)
  promised = promise / losses.floored(average_loss)
  room = tf.clip_by_value(
    tf.math.log(allowed / (promised + losses.TINY)), -1.0, 1.0
  )
  worst = tf.maximum(window.worst, promised / share(window, num_workers))
  faster = tf.clip_by_value(
    _HARMLESS * allowed / (worst + losses.TINY), 1.0, _FASTEST
  )
  # In the first round everybody pulled the same weights at the same time.
  faster = tf.where(pushes > round_size, faster, 1.0)
  gives_way = (room < 0.0) & (window.pushes > num_workers)
  gave_way = tf.maximum(window.gave_way, tf.cast(gives_way, tf.float32))
  growth = tf.where(gave_way > 0.0, _GROWTH, _SLOW_START * faster)
  growth /= max(num_workers, _LEAST_TO_DOUBLE)
  rate = tf.where(room > 0.0, growth, _RETREAT / round_size)
  log_size = window.log_size + tf.math.log(2.0) * rate * room
  return Window(
    tf.clip_by_value(log_size, 0.0, tf.math.log(float(num_workers))),
    promise,
    average_loss,
    change,
    first_loss,
    pushes,
    gave_way,
    worst,
  )


def severity(window: Window) -> tf.Tensor:
  """Returns q / p, shape=(): how much harm delays can do here.

  The most that the whole learning rate would have promised so far, over what
  is allowed now. Delays do no harm where it is small; where it is large, the
  window is what keeps them from it.

  Args:
    window: after the push.
  """
  allowed = allowed_share(window.loss, window.change, window.first_loss)
  return window.worst / allowed


def share(window: Window, num_workers: int) -> tf.Tensor:
  """Returns T / M, in (0, 1], shape=().

  Args:
    window: after the push.
    num_workers: M.
  """
  return tf.exp(window.log_size) / num_workers


def bound(gd: tf.Tensor, loss: tf.Tensor) -> tf.Tensor:
  """Returns min(1, l / |g.d|), shape=().

  A push's own linear model of the loss says l + g.d at the server's weights,
  and a loss is not negative. Where it is, the bound is 1, and the window, to
  which it counts as zero, stays small.

  Args:
    gd: g.d of this push, shape=().
    loss: l of this push, shape=().
  """
  bound = losses.floored(loss) / (tf.abs(gd) + losses.TINY)
  return tf.minimum(1.0, tf.where(losses.is_bounded(loss), bound, 1.0))
