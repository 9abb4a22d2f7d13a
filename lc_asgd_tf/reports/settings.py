"""Settings: what runs must share for their rules to be compared."""

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from lc_asgd_tf.reports.record import SEQUENTIAL, Record


class Setting(NamedTuple):
  """All of a run but its rule, number of workers, learning rate and seed.

  Attributes:
    dataset: name of the data set.
    model: name or path of the model.
    delays: name of the delays, or path of a trace.
    inner_optimizer: name of the inner optimizer.
    momentum: of SGD.
    batch_size: examples per worker and step.
    epochs: passes over the training data.
    batch_norm: how batch normalization is done.
    train_split: TFDS split, or None for all training data.
    test_split: TFDS split, or None for all test data.
  """

  dataset: str
  model: str
  delays: str
  inner_optimizer: str
  momentum: float
  batch_size: int
  epochs: int
  batch_norm: str
  train_split: str | None
  test_split: str | None

  @property
  def title(self) -> str:
    """The most important of it, for headings."""
    return f"{self.dataset}, {self.model}, {self.delays} delays"

  @property
  def details(self) -> str:
    """The rest of it, for captions."""
    parts = [
      f"batch size {self.batch_size}",
      f"{self.epochs} epochs",
      f"inner optimizer {self.inner_optimizer}",
      *([f"momentum {self.momentum:g}"] if self._has_momentum else []),
      f"{self.batch_norm} batch normalization",
    ]
    if self.train_split:
      parts.append(f"trained on {self.train_split}")
    if self.test_split:
      parts.append(f"tested on {self.test_split}")
    return ", ".join(parts)

  @property
  def _has_momentum(self) -> bool:
    # Of others than SGD only DANA has one.
    return self.inner_optimizer == "sgd" or self.momentum != 0

  @property
  def file_name(self) -> str:
    """A part of a file's name that no other setting has."""
    plain = [
      self.dataset,
      self.model,
      self.delays,
      self.inner_optimizer,
      f"m{self.momentum}",
      f"b{self.batch_size}",
      f"e{self.epochs}",
    ]
    if self.batch_norm != "async":
      plain.append(self.batch_norm)
    plain += [split for split in (self.train_split, self.test_split) if split]
    safe = [re.sub(r"[^a-z0-9_.]+", "_", part.lower())[-24:] for part in plain]
    # Nothing was lost: this alone tells the settings apart.
    if safe == plain and not (self.train_split or self.test_split):
      return "-".join(safe)
    digest = hashlib.sha256(repr(tuple(self)).encode()).hexdigest()
    return "-".join([*safe, digest[:8]])


def setting_of(record: Record) -> Setting:
  """Returns the setting of a run."""
  return Setting(*(record[field] for field in Setting._fields))


def by_setting(records: Iterable[Record]) -> dict[Setting, list[Record]]:
  """Returns the runs of each setting, in a fixed order.

  A run that is there twice counts once, as it was last. A sequential run knows
  neither delays nor whose statistics of batches count: it also stands in the
  settings that differ from its own in `delays` alone, or in `async` and `plain`
  as well, where these have no run with the same learning rate and seed. A
  setting of nothing but such runs is left out.
  """
  settings: dict[Setting, dict[tuple, Record]] = {}
  sequential: dict[Setting, dict[tuple, Record]] = {}
  for record in records:
    setting, run = setting_of(record), run_of(record)
    settings.setdefault(setting, {})[run] = record
    if record["rule"] == SEQUENTIAL:
      sequential.setdefault(_without_delays(setting), {})[run] = record
  compared = {
    setting
    for setting, runs in settings.items()
    if any(record["rule"] != SEQUENTIAL for record in runs.values())
  }
  served = {_without_delays(setting) for setting in compared}
  result = {}
  for setting, runs in sorted(settings.items(), key=_order):
    shared = _without_delays(setting)
    if setting in compared or shared not in served:
      lent = {
        run: dict(record) | setting._asdict()
        for run, record in sequential.get(shared, {}).items()
      }
      result[setting] = [*(lent | runs).values()]
  return result


def run_of(record: Record) -> tuple:
  """Returns which of its setting's runs a run is."""
  names = ("rule", "num_workers", "learning_rate", "seed")
  return tuple(record[name] for name in names)


def _without_delays(setting: Setting) -> Setting:
  # Statistics that are measured anew are others with one worker, too.
  batch_norm = setting.batch_norm if setting.batch_norm == "precise" else ""
  return setting._replace(delays="", batch_norm=batch_norm)


def _order(item: tuple[Setting, object]) -> tuple:
  return tuple("" if field is None else field for field in item[0])
