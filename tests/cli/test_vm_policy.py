"""`furlough vm set` and `vm show`: what a VM says itself, and what holds for it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.api.running import Running
from tests.cli.commands import Furlough, complaint

pytestmark = pytest.mark.usefixtures("everything_as_before", "no_policies")


@pytest.fixture
def no_policies(daemon: Running) -> Iterator[None]:
    """At last no VM says anything of its own."""
    yield

    def forget() -> None:
        for machine in daemon.cluster.hosts.values():
            for copy in machine.copies.values():
                copy.own_policy = ()

    daemon.do(forget)


def setting(shown: str, name: str) -> tuple[str, str]:
    """A setting's value and where it is from, as `vm show` prints them."""
    found = re.search(rf"^{name} +(.+?) +(the VM|default)$", shown, re.MULTILINE)
    assert found is not None, shown
    return found[1], found[2]


def test_what_is_set_is_shown_with_where_it_is_from(furlough: Furlough) -> None:
    result = furlough(
        *("vm", "set", "web01", "--on-maintenance", "shut_down", "--shut-down-grace", "3m"),
        *("--if-ignored", "power_off", "--availability-priority", "10", "--ha"),
        *("--downtime-budget", "0.5s", "--post-copy", "if_needed", "--needs-agent"),
        *("--affinity-group", "shop", "--anti-affinity-group", "web", "--host-affinity", "h1,h2"),
    )
    assert (result.code, result.err) == (0, "")
    shown = furlough("vm", "show", "web01").out
    assert shown == result.out
    for name, value in (
        ("on_maintenance", "shut_down"),
        ("shut_down_grace_s", "180"),
        ("if_ignored", "power_off"),
        ("availability_priority", "10"),
        ("ha", "yes"),
        ("downtime_budget_ms", "500"),
        ("post_copy", "if_needed"),
        ("affinity_group", "shop"),
        ("anti_affinity_group", "web"),
        ("host_affinity", "h1, h2"),
        ("needs_agent", "yes"),
    ):
        assert setting(shown, name) == (value, "the VM")


def test_what_is_not_named_stays_and_unset_brings_the_default_back(furlough: Furlough) -> None:
    furlough("vm", "set", "web01", "--on-maintenance", "leave", "--no-ha", "--shut-down-grace", "9")
    shown = furlough("vm", "set", "web01", "--unset", "on-maintenance", "--unset", "ha").out
    assert setting(shown, "on_maintenance") == ("live", "default")
    assert setting(shown, "ha") == ("no", "default")
    assert setting(shown, "shut_down_grace_s") == ("9", "the VM")
    again = furlough("vm", "set", "web01", "--unset", "shut-down-grace", "--json").json
    assert again["own_policy"] == {}


def test_an_empty_group_takes_a_vm_out_of_the_one_it_would_have(furlough: Furlough) -> None:
    found = furlough("vm", "set", "web01", "--affinity-group", "", "--json").json
    assert found["own_policy"] == {"affinity_group": ""}
    assert found["policy"]["affinity_group"] == ""


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "Nothing is named"),
        (("--shut-down-grace", "soon"), "no length of time"),
        (("--shut-down-grace", "1.5s"), "no whole number of seconds"),
        (("--shut-down-grace", "0"), "shut_down_grace_s cannot be '0'"),
        (("--downtime-budget", "2m"), "no length of time"),
        (("--downtime-budget", "9" * 40), "no length of time"),
        (("--downtime-budget", "0"), "downtime_budget_ms cannot be '0'"),
        (("--affinity-group", "a b"), "affinity_group cannot be 'a b'"),
        (("--host-affinity", "h1;h2"), "host_affinity cannot be 'h1;h2'"),
        (("--unset", "colour"), "no policy 'colour'"),
        (("--ha", "--unset", "ha"), "to be set and to be taken away"),
    ],
)
def test_what_makes_no_sense_is_said_so_and_nothing_is_set(
    furlough: Furlough, words: tuple[str, ...], why: str
) -> None:
    result = furlough("vm", "set", "web01", *words)
    assert result.code == 2
    assert why in complaint(result)
    assert furlough("vm", "show", "web01", "--json").json["own_policy"] == {}


@pytest.mark.parametrize(
    "words",
    [
        ("--on-maintenance", "explode"),
        ("--availability-priority", "101"),
        ("--availability-priority", "much"),
        ("--if-ignored", "cry"),
    ],
)
def test_a_value_that_an_option_does_not_know_is_a_mistake_of_usage(
    furlough: Furlough, words: tuple[str, ...]
) -> None:
    result = furlough("vm", "set", "web01", *words)
    assert (result.code, result.out) == (2, "")
    assert words[0] in result.err


def test_words_that_make_no_sense_are_named(daemon: Running, furlough: Furlough) -> None:
    copy = next(
        copy
        for machine in daemon.cluster.hosts.values()
        for copy in machine.copies.values()
        if copy.vm.name == "web01"
    )
    daemon.do(lambda: setattr(copy, "own_policy", (("ha", "perhaps"),)))
    furlough("check", "h1", "h2", "h3", "h4")  # looks anew
    shown = furlough("vm", "show", "web01").out
    assert setting(shown, "ha") == ("no", "default")
    assert "counts as not said: ha cannot be 'perhaps'" in shown
