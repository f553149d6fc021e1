"""What the guests themselves say: who ran where and when, how long each paused, and whether
two copies of one VM ever ran at once. Pure, but for `read`.

Each host's collector wrote down, with its clock, every line its guests printed: a number drawn
at boot and a counter that grows by one each 100 ms. A VM that is moved goes on counting on the
target. From that follows, per VM:

    run     lines of one boot on one host, counter by counter, none more than a second apart
    stay    runs in a row on one host
    gap     time between a line and the next one of the same boot, wherever either was printed
    double  two hosts' runs that count the same numbers of one boot, or that overlap in time

Two copies that ran together for less than 100 ms may have printed nothing at once: that is
below what this witness can see.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

LONGEST_PAUSE_IN_RUN_S = 1.0
# Collectors are late by tens of milliseconds, on a busy machine by more; counters that follow
# on each other show that it was one VM all the same.
LATE_S = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """One line of one guest, as one host saw it."""

    at: float
    vm: str
    host: str
    boot: str
    counter: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """A VM running on a host without a pause."""

    host: str
    boot: str
    since: float
    until: float
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Stay:
    """A VM being on a host, pauses included."""

    host: str
    since: float
    until: float
    boots: int


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A silence within one boot."""

    milliseconds: int
    since: float
    source: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Double:
    """Two hosts ran one VM: in this interval both printed, or both lived the same moments."""

    hosts: tuple[str, str]
    since: float
    until: float


@dataclass(frozen=True, kw_only=True)
class VmReport:
    """One VM's story. `quiet_ms` is how long ago its last line was; None if there was none."""

    vm: str
    host: str | None
    lines: int
    quiet_ms: int | None
    longest_gap: Gap | None
    stays: tuple[Stay, ...]
    doubles: tuple[Double, ...]


def read(logs: Mapping[str, Path]) -> list[Sighting]:
    """All sightings in the logs of these hosts, in the order of time."""
    found = [s for host, log in logs.items() if log.exists() for s in parse(host, log.read_text())]
    return sorted(found, key=lambda sighting: sighting.at)


def parse(host: str, text: str) -> Iterator[Sighting]:
    """The sightings in one log; a line that is still being written is left out."""
    for line in text.splitlines():
        words = line.split(" ")
        if len(words) == 4:
            at, vm, boot, counter = words
            yield Sighting(at=float(at), vm=vm, host=host, boot=boot, counter=int(counter))


def report(
    sightings: Iterable[Sighting], vms: Iterable[str], *, until: float, since: float = 0.0
) -> list[VmReport]:
    """Each VM's story between two instants: what ended after `since`, in the order of `vms`."""
    by_vm: dict[str, list[Sighting]] = {vm: [] for vm in vms}
    for sighting in sightings:
        if sighting.at <= until:
            by_vm.setdefault(sighting.vm, []).append(sighting)
    return [story(vm, seen, since, until) for vm, seen in by_vm.items()]


def story(vm: str, seen: list[Sighting], since: float, until: float) -> VmReport:
    """One VM's story from its sightings, which are in the order of time."""
    all_runs = runs(seen)
    gaps_seen = [gap for gap in gaps(seen) if gap.since + gap.milliseconds / 1000 >= since]
    return VmReport(
        vm=vm,
        host=seen[-1].host if seen else None,
        lines=sum(1 for sighting in seen if sighting.at >= since),
        quiet_ms=round((until - seen[-1].at) * 1000) if seen else None,
        longest_gap=max(gaps_seen, key=lambda gap: gap.milliseconds, default=None),
        stays=tuple(stay for stay in stays(seen) if stay.until >= since),
        doubles=tuple(double for double in doubles(all_runs) if double.until >= since),
    )


def runs(seen: Iterable[Sighting]) -> list[Run]:
    """Sightings of one VM, put together host by host, in the order of their beginning."""
    by_host: dict[str, list[Run]] = {}
    for sighting in seen:
        of_host = by_host.setdefault(sighting.host, [])
        if of_host and continues(of_host[-1], sighting):
            before = of_host.pop()
            of_host.append(lengthened(before, sighting))
        else:
            of_host.append(alone(sighting))
    return sorted((run for found in by_host.values() for run in found), key=lambda run: run.since)


def continues(run: Run, sighting: Sighting) -> bool:
    """Whether a line is the next one of a run."""
    return (
        sighting.boot == run.boot
        and sighting.counter == run.last + 1
        and sighting.at - run.until <= LONGEST_PAUSE_IN_RUN_S
    )


def alone(sighting: Sighting) -> Run:
    """A run of one line."""
    return Run(
        host=sighting.host,
        boot=sighting.boot,
        since=sighting.at,
        until=sighting.at,
        first=sighting.counter,
        last=sighting.counter,
    )


def lengthened(run: Run, sighting: Sighting) -> Run:
    """A run with one more line."""
    return Run(
        host=run.host,
        boot=run.boot,
        since=run.since,
        until=sighting.at,
        first=run.first,
        last=sighting.counter,
    )


def gaps(seen: list[Sighting]) -> Iterator[Gap]:
    """The time between each line of a boot and the next."""
    for before, after in pairwise(seen):
        if before.boot == after.boot:
            yield Gap(
                milliseconds=round((after.at - before.at) * 1000),
                since=before.at,
                source=before.host,
                target=after.host,
            )


def stays(seen: list[Sighting]) -> Iterator[Stay]:
    """Where the VM was, one stay after the other."""
    for here in rows(seen):
        yield Stay(
            host=here[0].host,
            since=here[0].at,
            until=here[-1].at,
            boots=len({sighting.boot for sighting in here}),
        )


def rows(seen: list[Sighting]) -> Iterator[list[Sighting]]:
    """Sightings in a row on one host."""
    row: list[Sighting] = []
    for sighting in seen:
        if row and row[-1].host != sighting.host:
            yield row
            row = []
        row.append(sighting)
    if row:
        yield row


def doubles(found: list[Run]) -> list[Double]:
    """Pairs of runs that one copy of the VM cannot have run; touching ones are put together."""
    pairs = [
        Double(
            hosts=(min(one.host, other.host), max(one.host, other.host)),
            since=max(one.since, other.since),
            until=max(min(one.until, other.until), one.since, other.since),
        )
        for number, one in enumerate(found)
        for other in found[number + 1 :]
        if one.host != other.host and are_two(one, other)
    ]
    return merged(sorted(pairs, key=lambda double: (double.hosts, double.since)))


def are_two(one: Run, other: Run) -> bool:
    """Whether these runs were two copies of the VM.

    The same count of the same boot on both: it was lived twice. Otherwise they must overlap by
    more than collectors may be late.
    """
    if one.boot == other.boot and one.first <= other.last and other.first <= one.last:
        return True
    return min(one.until, other.until) - max(one.since, other.since) > LATE_S


def merged(pairs: list[Double]) -> list[Double]:
    """Doubles of the same hosts less than a second apart are one."""
    result: list[Double] = []
    for pair in pairs:
        last = result[-1] if result else None
        if last and last.hosts == pair.hosts and pair.since <= last.until + LONGEST_PAUSE_IN_RUN_S:
            longest = max(last.until, pair.until)
            result[-1] = Double(hosts=last.hosts, since=last.since, until=longest)
        else:
            result.append(pair)
    return result
