"""Writes a report on training runs that were compared: lc-asgd-report.

    lc-asgd-report --results=DIR_OR_FILE

reads the results.jsonl of lc-asgd-compare, also of a comparison that is not
finished, writes report.md and its plots beside it or to --output_dir, and
prints the Markdown on standard output: for each data set, model and kind of
delays the test errors by rule and number of workers, the virtual time to a test
error, and paired comparisons of LC-ASGD with the other rules, one by one and,
at the end, over all settings.
"""

import pathlib

from absl import app
from absl import flags as absl_flags

from flags import report as report_flags
from trainers import program


def main(argv: list[str]) -> int:
  """Reads, writes and prints; returns the exit status.

  Raises:
    UserError: If the results cannot be read, or the report not be written.
  """
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument: {argv[1]!r}")
  options = report_flags.read()
  # Imported here, so that `--help` and a bad flag wait for nothing.
  from trainers import terminal

  terminal.Noise()  # TensorFlow is loaded, but has nothing to say here.
  from lc_asgd_tf import reports
  from lc_asgd_tf.comparison import store

  records = store.read(options.results)
  reports.check(records, options.results)
  directory = options.output_dir
  if directory is None:
    results = pathlib.Path(options.results)
    directory = results if results.is_dir() else results.parent
  print(reports.write(records, directory, options.target_error), end="")
  return 0


def run() -> None:
  """The console script lc-asgd-report."""
  # Not on import: flags of these names are other programs', too.
  report_flags.define()
  absl_flags.adopt_module_key_flags(report_flags)
  program.run(main)


if __name__ == "__main__":
  run()
