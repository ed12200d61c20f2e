"""Benchmarks of the command line: what `mnv2 bench`, `paper`, `scaling` and `report` measure and write."""
