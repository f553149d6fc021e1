"""Benchmarks with their targets: `python -m bench [ID...]`; without an id all but those in a lab.

Each prints its figures beside the target and, where there is one, the figure of a peer measured in
the same run; the same goes as JSON to
`bench/results/`, and a line to `bench/history/` (see `python -m bench --history`). The exit code is 1 when a target is missed.
"""
