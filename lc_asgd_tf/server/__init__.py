"""The state of the parameter server; knows nothing of processes."""

from lc_asgd_tf.server.ledger import Ledger, Statistics
from lc_asgd_tf.server.packing import Packing
from lc_asgd_tf.server.server import Server
from lc_asgd_tf.server.shard import Shard

__all__ = ("Ledger", "Packing", "Server", "Shard", "Statistics")
