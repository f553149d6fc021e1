"""`furlough host reboot`, `power-off`, and what `show`, `list` and `log` say of a violation."""

from __future__ import annotations

import pytest

from furlough.client import Client
from furlough.core.ids import HostName
from furlough.scenario.stage import plain_vm, vm_id
from tests.api.running import Running
from tests.api.test_host_power import eventually
from tests.cli.commands import Furlough, complaint

pytestmark = pytest.mark.usefixtures("everything_as_before")
H1 = HostName("h1")


def test_a_reboot_is_followed_to_its_end(furlough: Furlough) -> None:
    assert furlough("enter", "h3", "--wait").code == 0
    result = furlough("host", "reboot", "h3", "--wait")
    assert result.code == 0
    assert "h3: reboot host done" in result.out
    assert "h3 to come back from its reboot" in result.out
    assert "succeeded" in result.out.splitlines()[-1]


def test_power_off_prints_its_operation_as_json(
    furlough: Furlough, daemon: Running, client: Client
) -> None:
    assert furlough("enter", "h4", "--wait").code == 0
    try:
        result = furlough("host", "power-off", "h4", "--wait", "--json")
        assert (result.code, result.json["kind"]) == (0, "power_off_host")
    finally:
        daemon.do(lambda: daemon.cluster.boot(HostName("h4")))
        eventually(lambda: client.host("h4").reachability == "connected")


@pytest.mark.parametrize("act", ["reboot", "power-off"])
def test_a_host_in_service_is_refused_with_exit_code_3(furlough: Furlough, act: str) -> None:
    result = furlough("host", act, "h1")
    assert result.code == 3
    assert "furlough enter h1" in complaint(result)


def test_a_violation_is_shown_by_show_list_and_log(
    furlough: Furlough, daemon: Running, client: Client
) -> None:
    assert furlough("enter", "h1", "--wait").code == 0
    assert "CRITICAL" not in furlough("host", "show", "h1").out
    daemon.do(lambda: daemon.cluster.put(H1, plain_vm(99)))
    try:
        eventually(lambda: client.host("h1").violations)
        what = f"VM vm99 ({vm_id(99)})"
        shown = furlough("host", "show", "h1").out
        assert f"CRITICAL maintenance.violated: {what}, since " in shown
        assert "  -> " in shown
        lines = furlough("host", "list").out.splitlines()
        assert [("VIOLATED" in line) for line in lines[1:]] == [True, False, False, False]
        last = furlough("host", "log", "h1").out.splitlines()[-1]
        assert "  -  error" in last
        assert what in last
    finally:
        daemon.do(lambda: daemon.cluster.remove(H1, vm_id(99)))
    eventually(lambda: not client.host("h1").violations)
    assert "no longer violated" in furlough("host", "log", "h1").out.splitlines()[-1]


def test_show_tells_guard_boot_and_who_keeps_the_host_empty(furlough: Furlough) -> None:
    shown = furlough("host", "show", "h2").out
    assert "boot id" in shown
    assert "violations" not in shown
    found = furlough("host", "show", "h2", "--json").json
    assert found["violations"] == []
    assert {"guard", "guard_trouble", "kept_empty_by", "boot_id"} <= set(found)
