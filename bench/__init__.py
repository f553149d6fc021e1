"""Benchmarks with their targets: `python -m bench [ID...]`, or without an id all of them but those that
need a lab.

Each prints its figures beside the target and, where there is one, the figure of a peer measured in
the same run; the same goes as JSON to `bench/results/`. The exit code is 1 when a target is missed.
"""
