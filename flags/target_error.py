"""The flag for the test error to which reports measure virtual time."""

from absl import flags

from flags import finite

# It is the caller's, and stands in the caller's --help.
flags.disclaim_key_flags()


def define() -> None:
  """Registers --target_error."""
  flags.DEFINE_float(
    "target_error",
    None,
    "Test error, as a fraction, to which the report measures virtual time; by "
    "default the mean of the sequential runs and five points more.",
    lower_bound=0.0,
    upper_bound=1.0,
  )
  finite.check("target_error")
