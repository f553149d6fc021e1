"""Policies that travel with a VM: words in, what holds for it and what makes no sense out."""

from __future__ import annotations

from dataclasses import fields

import pytest

from furlough.core.ids import HostName
from furlough.core.vm_policy import (
    DEFAULT,
    NAMES,
    IfIgnored,
    OnMaintenance,
    PostCopy,
    VmPolicy,
    allowed,
    parse_word,
    policy_of,
    word_of,
    words_of,
)
from furlough.errors import Invalid


def test_a_vm_that_says_nothing_has_the_defaults() -> None:
    assert policy_of(()) == (DEFAULT, ())


def test_its_own_words_go_before_those_of_its_cluster() -> None:
    defaults = (("availability_priority", "20"), ("on_maintenance", "suspend"))
    policy, troubles = policy_of((("on_maintenance", "shut_down"),), defaults)
    assert policy.on_maintenance is OnMaintenance.SHUT_DOWN
    assert policy.availability_priority == 20
    assert troubles == ()


def test_words_that_make_no_sense_are_told_and_count_as_not_said() -> None:
    words = (("ha", "maybe"), ("mood", "good"), ("shut_down_grace_s", "60"))
    policy, troubles = policy_of(words, (("ha", "true"),))
    assert (policy.ha, policy.shut_down_grace_s) == (True, 60)
    assert troubles == ("ha cannot be 'maybe'.", "There is no policy 'mood' of a VM.")


def test_of_defaults_that_make_no_sense_the_vm_has_no_trouble() -> None:
    assert policy_of((), (("ha", "maybe"),)) == (DEFAULT, ())


@pytest.mark.parametrize(
    ("name", "word", "value"),
    [
        ("on_maintenance", "leave", OnMaintenance.LEAVE),
        ("shut_down_grace_s", "86400", 86400),
        ("if_ignored", "power_off", IfIgnored.POWER_OFF),
        ("availability_priority", "0", 0),
        ("ha", "false", False),
        ("downtime_budget_ms", "300", 300),
        ("downtime_budget_ms", "", None),
        ("post_copy", "if_needed", PostCopy.IF_NEEDED),
        ("affinity_group", "db", "db"),
        ("anti_affinity_group", "", ""),
        ("host_affinity", "h1, h2,", (HostName("h1"), HostName("h2"))),
        ("host_affinity", "", ()),
        ("needs_agent", "true", True),
    ],
)
def test_each_setting_is_read_and_written_as_the_same_word(
    name: str, word: str, value: object
) -> None:
    assert parse_word(name, word) == value
    assert parse_word(name, word_of(value)) == value


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("on_maintenance", "LIVE"),
        ("shut_down_grace_s", "0"),
        ("shut_down_grace_s", "86401"),
        ("shut_down_grace_s", "-5"),
        ("shut_down_grace_s", "1e3"),
        ("availability_priority", "101"),
        ("availability_priority", "\u0663"),
        ("availability_priority", "1" * 10),
        ("ha", "yes"),
        ("downtime_budget_ms", "0"),
        ("post_copy", "always"),
        ("affinity_group", "a group"),
        ("host_affinity", "h1,-rf"),
        ("host_affinity", ",".join(f"h{n}" for n in range(257))),
    ],
)
def test_a_word_that_a_setting_cannot_be_is_refused_with_what_it_can_be(
    name: str, word: str
) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_word(name, word)
    assert refusal.value.code == "policy.value"
    assert refusal.value.remedy == f"Give {allowed(name)}."


def test_a_word_without_end_is_refused_and_not_repeated() -> None:
    with pytest.raises(Invalid) as refusal:
        parse_word("host_affinity", "h" * 20_000)
    assert len(refusal.value.message) < 100
    assert refusal.value.remedy


def test_words_are_kept_in_the_order_of_their_names_once_they_make_sense() -> None:
    assert words_of({"ha": "true", "affinity_group": "db"}) == (
        ("affinity_group", "db"),
        ("ha", "true"),
    )
    with pytest.raises(Invalid):
        words_of({"ha": "maybe"})


def test_every_setting_can_be_said_and_explained() -> None:
    assert tuple(one.name for one in fields(VmPolicy)) == NAMES
    for name in NAMES:
        assert allowed(name)
        assert parse_word(name, word_of(getattr(DEFAULT, name))) == getattr(DEFAULT, name)
