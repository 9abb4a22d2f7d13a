"""From a cluster that serves to a strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lc_asgd_tf.cluster.specification import ClusterSpecification

if TYPE_CHECKING:
  import tensorflow as tf


def session_options() -> tf.compat.v1.ConfigProto:
  """Returns options with which idle threads sleep at once."""
  import tensorflow as tf

  return tf.compat.v1.ConfigProto(
    experimental=tf.compat.v1.ConfigProto.Experimental(
      disable_thread_spinning=True
    )
  )


def connect(
  specification: ClusterSpecification,
) -> tf.distribute.ParameterServerStrategy:
  """Connects this process, the coordinator, to the tasks of a cluster.

  Beside what `tf.distribute.ParameterServerStrategy` does, idle threads of all
  tasks sleep at once. By default they look for work a while, on cores that the
  other processes of the machine could use: with small models, a sixth of the
  throughput.

  Args:
    specification: of the cluster, as the coordinator sees it.
  """
  import tensorflow as tf
  from tensorflow.python.eager import context

  # The tasks get their options from the coordinator's context, and TensorFlow
  # has no other way to set this one.
  own = context.context()
  if own._config is None:
    own._config = session_options()
  return tf.distribute.ParameterServerStrategy(specification.cluster_resolver())
