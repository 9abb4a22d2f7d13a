"""The optimizer on ps tasks, and `fit` around it."""

from lc_asgd_tf.parameter_server.async_trainer import AsyncTrainer

__all__ = ("AsyncTrainer",)
