"""What libvirt tells of dirty rates, and what becomes of a hypervisor that cannot measure them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from furlough.clock import RealClock
from furlough.core.ids import VmId
from tests.drivers.binding import needing_libvirt, private_host

libvirt = needing_libvirt("libvirt")
dirty_rate = needing_libvirt("furlough.drivers.libvirt.dirty_rate")

TEST, NOBODY = (
    VmId("6695eb01-f6a4-8304-79aa-97f2502e193f"),
    VmId("00000000-0000-4000-8000-000000000000"),
)


@pytest.mark.parametrize(
    ("stats", "rate"),
    [
        ({"calc_status": 2, "megabytes_per_second": 7}, 7.0),
        ({"calc_status": 2, "megabytes_per_second": 0}, 0.0),
        ({"calc_status": 1}, None),
        ({"calc_status": 0, "calc_mode": "page-sampling"}, None),
        ({"calc_status": 2}, None),
        ({}, None),
    ],
)
def test_a_rate_is_told_when_it_was_measured_and_not_before(
    stats: dict[str, Any], rate: float | None
) -> None:
    assert dirty_rate.rate_of({f"dirtyrate.{name}": one for name, one in stats.items()}) == rate


def test_a_hypervisor_that_cannot_measure_watches_nobody(tmp_path: Path) -> None:
    """libvirt's own driver for tests knows no dirty rates, and one VM is not there at all."""
    connection = libvirt.open(private_host(tmp_path))
    try:
        assert dirty_rate.start(connection, [TEST, NOBODY], 1, RealClock()) == []
    finally:
        connection.close()


class _Domain:
    """A VM as libvirt's binding shows it; it notes for how long it is to be watched."""

    def __init__(self, state: int, *, has_job: bool = False) -> None:
        self.watched_s: list[int] = []
        self._state, self._has_job = state, has_job

    def state(self) -> list[int]:
        return [self._state, 1]

    def jobStats(self) -> dict[str, int]:  # noqa: N802  # libvirt's name
        kind = libvirt.VIR_DOMAIN_JOB_UNBOUNDED if self._has_job else libvirt.VIR_DOMAIN_JOB_NONE
        return {"type": kind}

    def startDirtyRateCalc(self, seconds: int, flags: int) -> None:  # noqa: N802
        assert flags == 0
        self.watched_s.append(seconds)


class _Connection:
    def __init__(self, domains: dict[str, _Domain]) -> None:
        self._domains = domains

    def lookupByUUIDString(self, vm: str) -> _Domain:  # noqa: N802
        return self._domains[vm]


def test_only_vms_that_run_and_have_no_job_are_watched() -> None:
    domains = {
        "runs": _Domain(libvirt.VIR_DOMAIN_RUNNING),
        "paused": _Domain(libvirt.VIR_DOMAIN_PAUSED),
        "moves": _Domain(libvirt.VIR_DOMAIN_RUNNING, has_job=True),
    }
    assert dirty_rate.start(_Connection(domains), list(domains), 5, RealClock()) == ["runs"]
    assert {name: one.watched_s for name, one in domains.items()} == {
        "runs": [5],
        "paused": [],
        "moves": [],
    }
