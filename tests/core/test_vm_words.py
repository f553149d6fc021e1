"""Changing what a VM says about itself: only what was meant, and nothing that makes no sense."""

from __future__ import annotations

import pytest

from furlough.core.vm_policy import DEFAULT, OnMaintenance, merged_words, policy_of
from furlough.errors import Invalid

OWN = (("ha", "true"), ("on_maintenance", "shut_down"))


def test_what_is_not_named_stays_and_what_is_taken_away_is_the_default_again() -> None:
    words = merged_words(OWN, {"ha": None, "availability_priority": "90"})
    assert words == (("availability_priority", "90"), ("on_maintenance", "shut_down"))
    policy, troubles = policy_of(words)
    assert (policy.ha, policy.availability_priority, troubles) == (DEFAULT.ha, 90, ())
    assert policy.on_maintenance is OnMaintenance.SHUT_DOWN


def test_taking_away_what_is_not_there_changes_nothing() -> None:
    assert merged_words(OWN, {"post_copy": None}) == OWN


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"on_maintenance": "explode"}, "policy.value"),
        ({"shut_down_grace_s": "0"}, "policy.value"),
        ({"downtime_budget_ms": "1e3"}, "policy.value"),
        ({"host_affinity": "h1,-x"}, "policy.value"),
        ({"ha": "yes"}, "policy.value"),
        ({"host_affinity": "h," * 10_000}, "policy.value"),
        ({"colour": "red"}, "policy.unknown"),
        ({"colour": None}, "policy.unknown"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(
    change: dict[str, str | None], code: str
) -> None:
    with pytest.raises(Invalid) as caught:
        merged_words(OWN, change)
    assert caught.value.code == code


def test_words_that_made_no_sense_before_are_not_kept() -> None:
    own = (("colour", "red"), ("ha", "maybe"), ("on_maintenance", "ask"))
    assert merged_words(own, {}) == (("on_maintenance", "ask"),)
