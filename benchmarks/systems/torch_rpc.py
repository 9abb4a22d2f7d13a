"""An asynchronous parameter server of PyTorch's RPC framework.

As in PyTorch's tutorial, the server is an object that workers call, with a
lock around its optimizer; gradients and weights travel as one vector each way,
and a push returns the new weights.
"""

import os
import threading

import numpy as np

from benchmarks import networks
from benchmarks.systems import contest

_server = None


class _Server:
  """The weights and their optimizer; one per ps process."""

  def __init__(self, network) -> None:
    import torch

    self._lock = threading.Lock()
    self._parameters = list(networks.torch_network(network).parameters())
    self._optimizer = torch.optim.SGD(self._parameters, 0.01, momentum=0.9)

  def pull(self):
    import torch

    return torch.nn.utils.parameters_to_vector(self._parameters).detach()

  def push(self, gradient):
    with self._lock:
      offset = 0
      for parameter in self._parameters:
        size = parameter.numel()
        part = gradient[offset : offset + size]
        parameter.grad = part.view_as(parameter)
        offset += size
      self._optimizer.step()
      return self.pull()


def _create(network):
  global _server
  _server = _Server(network)


def _pull():
  return _server.pull()


def _push(gradient):
  return _server.push(gradient)


def _initialize(name, rank, workers, port):
  import torch
  from torch.distributed import rpc

  torch.set_num_threads(1)
  os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
  rpc.init_rpc(name, rank=rank, world_size=workers + 1)


def _serve(workers, port) -> None:
  from torch.distributed import rpc

  _initialize("ps", 0, workers, port)
  rpc.shutdown()  # Waits for the workers.


def _work(pipe, options, worker, port) -> None:
  import torch
  from torch.distributed import rpc

  _initialize(f"worker{worker}", worker + 1, options.workers, port)
  network = networks.torch_network(options.network)
  parameters = list(network.parameters())
  images, labels = networks.digits()
  images = torch.from_numpy(np.moveaxis(images, -1, 1).copy())
  labels = torch.from_numpy(labels)
  if worker == 0:
    rpc.rpc_sync("ps", _create, (options.network,))
  pipe.send(None)
  while steps := pipe.recv():
    weights = rpc.rpc_sync("ps", _pull)
    for step in range(steps):
      torch.nn.utils.vector_to_parameters(weights, parameters)
      first = step * options.batch % (len(labels) - options.batch)
      batch = slice(first, first + options.batch)
      loss = torch.nn.functional.cross_entropy(
        network(images[batch]), labels[batch]
      )
      gradients = torch.autograd.grad(loss, parameters)
      gradient = torch.cat([g.reshape(-1) for g in gradients])
      weights = rpc.rpc_sync("ps", _push, (gradient,))
    pipe.send(None)


def main() -> None:
  """Trains with a process per worker and one ps, in turns."""
  import multiprocessing

  from lc_asgd_tf import cluster

  options = contest.arguments()
  os.environ.setdefault("OMP_NUM_THREADS", "1")
  (port,) = cluster.free_ports(1)
  spawn = multiprocessing.get_context("spawn")
  server = spawn.Process(
    target=_serve, args=(options.workers, port), daemon=True
  )
  server.start()
  pipes, pids = [], {"ps 0": server.pid}
  for worker in range(options.workers):
    pipe, theirs = spawn.Pipe()
    process = spawn.Process(
      target=_work, args=(theirs, options, worker, port), daemon=True
    )
    process.start()
    theirs.close()  # Or nobody would hear of its end.
    cluster.bind_worker(process.pid, worker, options.workers)
    pipes.append(pipe)
    pids[f"worker {worker}"] = process.pid
  for pipe in pipes:
    pipe.recv()

  watch = contest.Stopwatch(pids)

  def run(steps):
    each = max(1, steps // options.workers)
    watch.start()
    for pipe in pipes:
      pipe.send(each)
    for pipe in pipes:
      pipe.recv()
    watch.stop()
    return watch.turn(each * len(pipes))

  contest.take_turns(run)


if __name__ == "__main__":
  main()
