"""What is said of an evacuation beforehand, and how long it takes on real hosts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from furlough.lab.blueprint import Options
from tests.lab.conftest import driven, own_name
from tests.lab.fleet import Fleet

pytestmark = [pytest.mark.timeout(600)]

HOT_MIB, HOT_MIB_S = 12, 4


@pytest.fixture(params=[0, HOT_MIB], ids=["idle", "writing"])
def slow_links(
    request: pytest.FixtureRequest, able: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Four VMs on the first of three hosts, all idle or all writing, and links of 150 Mbit/s."""
    hot_mib: int = request.param
    options = Options(
        vms=4, on="h1", memory_mib=160, fill_percent=60, rate_mbit_s=150,
        hot_mib=hot_mib, hot_mib_s=HOT_MIB_S if hot_mib else 0,
    )  # fmt: skip
    yield from driven(own_name("g"), options, tmp_path_factory)


def took_s(operation: Any) -> float:
    """From its start to its end."""
    began, ended = (datetime.fromisoformat(operation[one]) for one in ("started_at", "finished_at"))
    return (ended - began).total_seconds()


def test_a_real_evacuation_ends_within_the_range_said_before_it(slow_links: Fleet) -> None:
    """Twice: by what is enrolled, and by what the first one has shown of the links."""
    for _ in range(2):
        plan = slow_links.check(slow_links.furlough("plan", "h1", "--json")).json
        entered = slow_links.check(slow_links.furlough("enter", "h1", "--wait", "--json")).json
        low, high = plan["eta_s"]["low"], plan["eta_s"]["high"]
        assert low <= took_s(entered) <= high, (plan["eta_s"], took_s(entered))
        # Wide, since of guests this small emulators tell dirty rates roughly.
        assert high <= 3 * low
        slow_links.check(slow_links.furlough("exit", "h1", "--wait"))
    assert any("MiB/s" in reason for reason in plan["eta_reasons"])
    assert any("was measured" in reason for reason in plan["eta_reasons"])
