"""Records of training runs, for the tests of reports."""

_CELL = {
  "dataset": "digits",
  "model": "mlp",
  "rule": "lc_asgd",
  "num_workers": 4,
  "delays": "heterogeneous",
  "inner_optimizer": "sgd",
  "learning_rate": 0.1,
  "momentum": 0.0,
  "batch_size": 16,
  "epochs": 3,
  "seed": 0,
  "batch_norm": "async",
  "train_split": None,
  "test_split": None,
}


def run(rule="lc_asgd", num_workers=4, test_error=0.04, **fields):
  """Returns a record of three epochs of 10 pushes, 5 virtual seconds each."""
  history = [
    {
      "loss": loss,
      "pushes": 10,
      "virtual_time": 5.0 * epoch,
      "staleness_mean": 3.0,
      "test_error": error,
    }
    for epoch, loss, error in ((1, 2.0, 0.5), (2, 1.0, 0.2), (3, 0.5, None))
  ]
  result = {
    "test_error": test_error,
    "test_loss": 0.2,
    "failed": False,
    "history": history,
    "staleness": {"0": 1, "3": 9},
    "seconds": 1.0,
  }
  cell = _CELL | {"rule": rule, "num_workers": num_workers}
  return cell | result | fields


def sequential(test_error=0.02, **fields):
  """Returns a record of a sequential run, which has no clock."""
  record = run("sequential", 1, test_error, **fields)
  for entry in record["history"]:
    entry.pop("virtual_time", None)
    entry.pop("staleness_mean", None)
  return record | {"staleness": {}}


def seeds(test_errors, rule="lc_asgd", num_workers=4, **fields):
  """Returns a run for each of these errors, with the seeds 0, 1 and so on."""
  make = sequential if rule == "sequential" else run
  if make is run:
    fields |= {"rule": rule, "num_workers": num_workers}
  return [
    make(test_error=error, seed=seed, **fields)
    for seed, error in enumerate(test_errors)
  ]
