"""How long simulated workers take, in virtual time."""

from lc_asgd_tf.delays.constant import Constant
from lc_asgd_tf.delays.delays import Delays
from lc_asgd_tf.delays.heavy_tailed import HeavyTailed
from lc_asgd_tf.delays.heterogeneous import Heterogeneous
from lc_asgd_tf.delays.homogeneous import Homogeneous
from lc_asgd_tf.delays.trace import Trace

__all__ = (
  "Constant",
  "Delays",
  "HeavyTailed",
  "Heterogeneous",
  "Homogeneous",
  "Trace",
)
