"""What delays leave of an optimizer's momentum."""

# What is left of 1 - M (1 - beta) by rounding, where it should be nothing.
_ROUNDING = 1e-9


def explicit_momentum(momentum: float, num_workers: float) -> float:
  """Returns max(0, 1 - M (1 - beta)), an optimizer's momentum with M workers.

  Late gradients are a momentum of their own: with delays that are exponential,
  that of M workers is 1 - 1 / M. Where both are in full, a step goes on long
  after the gradient that it follows, and the updates on their way promise as
  much more of the loss. An optimizer remembers for about 1 / (1 - beta)
  updates, and here for an M-th of that, but for one at least.

  Source: Mitliagkas, Zhang, Hadjis, Re, "Asynchrony begets momentum, with an
  application to deep learning", 2016, arXiv 1605.09774, for the momentum of
  delays; the formula is this project's own.

  Args:
    momentum: beta, in [0, 1], that is right for one worker.
    num_workers: M, updates on their way at a time; fewer than 1 count as 1.
  """
  if num_workers <= 1:
    return momentum  # To the last bit.
  left = 1.0 - num_workers * (1.0 - momentum)
  return left if left > _ROUNDING else 0.0
