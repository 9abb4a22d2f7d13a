"""A task of a cluster as TensorFlow's guide starts it."""

import json
import os


def main() -> None:
  """Serves the task of TF_CONFIG until the process is ended."""
  import tensorflow as tf

  config = json.loads(os.environ["TF_CONFIG"])
  server = tf.distribute.Server(
    config["cluster"],
    job_name=config["task"]["type"],
    task_index=config["task"]["index"],
    protocol="grpc",
  )
  print("serving", flush=True)
  server.join()


if __name__ == "__main__":
  main()
