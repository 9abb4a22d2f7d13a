"""What is compared: one training run, and what came of it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Cell:
  """One training run.

  Attributes:
    dataset: name, as `lc_asgd_tf.datasets.load` takes it.
    model: name of a reference network, or path of a `.keras` file.
    rule: name of a rule or control (see `rules`).
    num_workers: M; 1 is the sequential run.
    delays: `homogeneous`, `heterogeneous`, `heavy_tailed`, `constant`, the
      path of a trace, or `none` with one worker.
    inner_optimizer: `sgd`, `adam` or `adamw`.
    learning_rate: of the inner optimizer.
    momentum: of SGD.
    batch_size: examples per worker and step.
    epochs: passes over the training data, of all workers together.
    seed: of the initial weights, the order of the data, and the delays.
    batch_norm: `async`, `plain` for moving statistics per worker, or `precise`
      for statistics that are measured at the weights that are evaluated.
    train_split: TFDS split, or None for all training data.
    test_split: TFDS split, or None for all test data.
  """

  dataset: str
  model: str
  rule: str
  num_workers: int
  delays: str
  inner_optimizer: str
  learning_rate: float
  momentum: float
  batch_size: int
  epochs: int
  seed: int
  batch_norm: str = "async"
  train_split: str | None = None
  test_split: str | None = None

  @property
  def program(self) -> tuple[object, ...]:
    """What cells must share to share a compiled train step."""
    varying = ["learning_rate", "seed", "epochs"]
    # Only workers of a trace rest.
    if not self.delays.endswith(TRACE):
      varying.append("delays")
    return tuple(
      value
      for field, value in dataclasses.asdict(self).items()
      if field not in varying
    )


TRACE = ".csv"
"""What the names of recorded delays end with."""

SEQUENTIAL = "sequential"
"""The rule of cells with one worker, where all rules are the same."""

NO_DELAYS = "none"
"""The delays of cells with one worker, where nothing is late."""
