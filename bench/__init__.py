"""Benchmarks with their targets: `python -m bench [ID...]`; without an id all but those in a lab.

Each prints its figures beside the target and, where there is one, the figure of a peer measured in
the same run. All of it goes as JSON to `bench/results/`, and the figures as one line to
`bench/history/`, which `python -m bench --history [ID...]` shows. The exit code is 1 when a target
is missed.
"""
