"""The command line's benchmarks: what bench, traffic, memory, headlines, scaling, roofline and report do."""


class BenchError(Exception):
    """Something asked for cannot be measured, written or read."""


class WrongResultError(BenchError):
    """A network computes something wrong, so that its time is worth nothing."""
