"""Seeded runs of the whole service: no promise is broken, whatever goes wrong."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.simulation.seeded_run import SeededRun, play

RUNS = int(os.environ.get("FURLOUGH_RUNS", "300"))
FIRST = int(os.environ.get("FURLOUGH_FIRST_SEED", "1"))
KINDS = {
    "lost_request", "lost_reply", "refused", "lost_finish", "delayed", "late", "refused_effect",
    "lost_write", "lost_commit", "slow_store", "store_down",
    "own_crash", "own_freeze", "clock_set",
    "dead_daemon", "cut_off", "slow_link", "dead_host",
    "others_move", "others_power_off", "others_delete", "others_start", "others_create",
    "others_abort", "others_pause", "others_run_by_hand", "guest_ends", "guest_crashes",
}  # fmt: skip
# Fewer runs than this cannot be asked to show everything.
MANY = 300


@pytest.mark.long
@pytest.mark.timeout(0)
def test_no_seeded_run_breaks_a_promise(capsys: pytest.CaptureFixture[str]) -> None:
    # The order of sets is a part of a run: the same in every process.
    os.environ["PYTHONHASHSEED"] = "0"
    with ProcessPoolExecutor(
        mp_context=get_context("spawn"),
        # Other tests that run beside it have time limits.
        initializer=os.nice,
        initargs=(10,),
    ) as processes:
        runs = list(processes.map(play, range(FIRST, FIRST + RUNS), chunksize=10))
    void = sum(run.is_void for run in runs)
    evacuations = sum(run.evacuations for run in runs)
    words = f"{len(runs)} runs, {evacuations} evacuations, {void} runs void"
    with capsys.disabled():
        print(words)  # noqa: T201
    broken = [run for run in runs if run.violations]
    assert not broken, _first_words(broken)
    if len(runs) >= MANY:
        _check_that_much_happened(runs)


def _check_that_much_happened(runs: list[SeededRun]) -> None:
    """A suite of calm seas would prove nothing."""
    void = sum(run.is_void for run in runs)
    assert void <= len(runs) * 0.45, f"{void} of {len(runs)} runs did too little"
    fired = {kind for run in runs for kind in run.faults}
    assert fired == KINDS, f"never fired: {KINDS - fired}, unknown: {fired - KINDS}"
    ends = Counter(" ".join(end.split()[:2]) for run in runs for end in run.ends)
    for end in ("enter succeeded", "enter failed", "enter cancelled", "exit succeeded"):
        assert ends[end] > len(runs) / 30, f"too few ended so: {end}: {ends}"
    outcomes = Counter(word for run in runs for word in run.outcomes)
    for outcome in ("moved", "stopped", "started", "stayed", "changed_by_others", "died"):
        assert outcomes[outcome], f"no VM was {outcome}: {outcomes}"
    assert sum(run.evacuations for run in runs) > len(runs)


def test_a_seed_gives_the_same_run_again() -> None:
    """Else nothing that is found could be looked into."""
    one, two = play(7), play(7)
    assert one == two
    assert one.evacuations


def _first_words(broken: list[SeededRun]) -> str:
    seeds = [run.seed for run in broken]
    first = broken[0]
    return (
        f"{len(broken)} runs broke a promise, seeds {seeds[:20]}; again with one of them:\n"
        f"  python -m scripts.soak replay {first.seed}\n" + "\n".join(first.violations[:10])
    )
