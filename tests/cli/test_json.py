"""What programs read: `--json` prints JSON, nothing else, in the shapes of the design."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.running import Running
from tests.cli.commands import Furlough

pytestmark = pytest.mark.usefixtures("everything_as_before")

HOST = """name uuid cluster mode reachability cpus memory_mib memory_used_mib vms_running vms_total
          operation"""
VM = "uuid name host home_host power vcpus memory_mib on_maintenance ha"
OPERATION = """id kind hosts state code waiting_for progress_percent eta_s bytes_done bytes_total
               started_at finished_at steps vms"""
STEP = """id vm_uuid vm_name method source target state attempts duration_s downtime_ms bytes
          error"""
ACCOUNT = "uuid name host power outcome attempts remedy"
REPORT = "host verdict findings vms"
FINDING = "code severity subject message remedy"
DISPOSITION = "uuid name method target reason duration_s downtime_ms"
PLAN = "id hash hosts steps unplaced eta_s bounds migrations load_after"
PLANNED = "vm_uuid vm_name method source target wave start_s duration_s downtime_ms"


def check_shape(found: dict[str, Any], names: str) -> None:
    missing = set(names.split()) - set(found)
    assert not missing


def check_operation(found: dict[str, Any]) -> None:
    check_shape(found, OPERATION)
    assert found["steps"]
    for step in found["steps"]:
        check_shape(step, STEP)
        assert step["state"] in ("pending", "started", "succeeded", "failed", "skipped")
    for vm in found["vms"]:
        check_shape(vm, ACCOUNT)
        for attempt in vm["attempts"]:
            check_shape(attempt, "target error")


def test_hosts(furlough: Furlough) -> None:
    found = furlough("host", "list", "--json").json
    assert [host["name"] for host in found] == ["h1", "h2", "h3", "h4"]
    for host in found:
        check_shape(host, HOST)
    assert furlough("host", "show", "h2", "--json").json == found[1]


def test_vms(furlough: Furlough) -> None:
    found = furlough("vm", "list", "--json").json
    assert len(found) == 24
    for vm in found:
        check_shape(vm, VM)
        assert vm["power"] in ("running", "paused", "shut_off", "suspended", "error")
    assert len(furlough("vm", "list", "--host", "h1", "--json").json) == 6
    assert furlough("vm", "show", "web01", "--json").json in found
    assert furlough("vm", "show", found[3]["uuid"].upper(), "--json").json == found[3]


def test_clusters(furlough: Furlough) -> None:
    found = furlough("cluster", "list", "--json").json
    assert [(one["name"], one["hosts"], one["vms"]) for one in found] == [("sim", 4, 24)]
    assert furlough("cluster", "show", "sim", "--json").json == found[0]


def test_checks(furlough: Furlough) -> None:
    found = furlough("check", "h1", "--json").json
    assert [one["host"] for one in found] == ["h1"]
    for report in found:
        check_shape(report, REPORT)
        assert report["verdict"] in ("ok", "warnings", "blocked")
        assert len(report["vms"]) == 6
        for vm in report["vms"]:
            check_shape(vm, DISPOSITION)


def test_findings(furlough: Furlough) -> None:
    """Two hosts at once are more than the cluster allows to be away."""
    result = furlough("check", "h1", "h2", "--json")
    assert result.code == 3
    findings = [finding for report in result.json for finding in report["findings"]]
    assert {finding["severity"] for finding in findings} <= {"blocker", "warning", "info"}
    assert "cluster.host_away" in {finding["code"] for finding in findings}
    for finding in findings:
        check_shape(finding, FINDING)


def test_plans(furlough: Furlough) -> None:
    plan = furlough("plan", "h1", "--json").json
    check_shape(plan, PLAN)
    check_shape(plan["eta_s"], "low high")
    check_shape(plan["bounds"], "makespan_s migrations")
    check_shape(plan["load_after"], "max sd")
    assert plan["hosts"] == ["h1"]
    assert plan["migrations"] == len([one for one in plan["steps"] if one["vm_uuid"]]) == 6
    for step in plan["steps"]:
        check_shape(step, PLANNED)


def test_an_operation_at_its_beginning_on_its_way_and_at_its_end(
    daemon: Running, furlough: Furlough
) -> None:
    daemon.hold("h1")
    asked = furlough("enter", "h1", "--json").json
    check_operation(asked)
    check_operation(furlough("operation", "show", asked["id"], "--json").json)
    active = furlough("operation", "list", "--active", "--json").json
    assert [one["id"] for one in active] == [asked["id"]]
    check_operation(active[0])
    daemon.let_go("h1")
    watched = furlough("operation", "watch", asked["id"], "--json")
    check_operation(watched.json)
    assert (watched.json["state"], watched.code) == ("succeeded", 0)
    assert watched.json["finished_at"] > watched.json["started_at"]
    assert {vm["outcome"] for vm in watched.json["vms"]} == {"moved"}
    assert furlough("operation", "show", asked["id"], "--json").json == watched.json
    journal = furlough("operation", "show", asked["id"], "--journal", "--json").json
    assert [one["number"] for one in journal] == list(range(1, len(journal) + 1))


def test_entering_and_waiting_prints_the_operation_once_at_its_end(furlough: Furlough) -> None:
    entered = furlough("enter", "h2", "--wait", "--json", "--reason", "fans", "--ticket", "T-1")
    check_operation(entered.json)
    assert (entered.json["state"], entered.code, entered.err) == ("succeeded", 0, "")
    checked = furlough("exit", "h2", "--check", "--json").json
    assert (checked["hosts"], checked["verdict"], checked["findings"]) == (["h2"], "ok", [])
    assert {vm["action"] for vm in checked["live_migrate_back"]} == {"live"}
    assert (checked["power_on"], checked["cold_migrate_back"]) == ([], [])
    check_shape(checked["plan"], PLAN)
    exited = furlough("exit", "h2", "--wait", "--json").json
    check_operation(exited)
    assert exited["state"] == "succeeded"


def test_acts_on_hosts_and_vms_print_their_operation(furlough: Furlough) -> None:
    for words in (
        ("host", "cordon", "h4"),
        ("host", "uncordon", "h4"),
        ("vm", "migrate", "web01", "--to", "h2"),
        ("vm", "migrate", "web01", "--to", "h1"),
        ("vm", "power-off", "web01"),
        ("vm", "start", "web01"),
        ("vm", "shut-down", "web01", "--grace", "1m"),
        ("vm", "start", "web01"),
    ):
        result = furlough(*words, "--wait", "--json")
        assert (result.json["state"], result.code) == ("succeeded", 0), words


def test_an_error_is_on_the_other_side_so_that_there_is_no_broken_json(furlough: Furlough) -> None:
    result = furlough("host", "show", "nowhere", "--json")
    assert result.out == ""
    assert result.err.startswith("furlough: ")


def test_the_log_of_a_host(furlough: Furlough) -> None:
    """It tells the same to people, a line for each machine and event."""
    assert furlough("enter", "h1", "--wait").code == 0
    found = furlough("host", "log", "h1", "--json").json
    for line in found:
        check_shape(line, "at level operation vm_name message")
    shown = furlough("host", "log", "h1", "--limit", "3").out.splitlines()
    assert len(shown) == 3
    assert [line.split("  ")[-1].strip() for line in shown] == [
        f"{line['vm_name']}: {line['message']}" if line["vm_name"] else line["message"]
        for line in found[-3:]
    ]
    assert any("Maintenance Mode" in line for line in shown)
