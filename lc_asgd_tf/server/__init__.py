"""The state of the parameter server; knows nothing of processes."""

from lc_asgd_tf.server.ledger import Ledger, Statistics
from lc_asgd_tf.server.packing import Packing
from lc_asgd_tf.server.server import Server
from lc_asgd_tf.server.shard import Shard
from lc_asgd_tf.server.table import Table
from lc_asgd_tf.server.wire import PULL_DTYPES, check_pull_dtype

__all__ = (
  "Ledger",
  "PULL_DTYPES",
  "Packing",
  "Server",
  "Shard",
  "Statistics",
  "Table",
  "check_pull_dtype",
)
