"""The systems whose throughput is compared, one program each.

Every one trains the network that it is told to with asynchronous workers, and
speaks the protocol of `benchmarks.systems.contest`.
"""
