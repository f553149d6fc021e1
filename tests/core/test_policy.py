"""What an operator gets who says nothing: the careful choice."""

from __future__ import annotations

from furlough.core.policy import (
    ActionOptions,
    ClusterPolicy,
    EnterOptions,
    ExitOptions,
    Limits,
    Options,
    RestoreMode,
)


def test_by_default_one_host_of_a_cluster_may_be_away_at_a_time() -> None:
    assert ClusterPolicy().max_hosts_away == 1


def test_by_default_hosts_are_never_filled_to_the_brim() -> None:
    assert 0 < ClusterPolicy().memory_ceiling < 1


def test_by_default_the_hypervisors_own_storage_check_is_not_waived() -> None:
    assert ClusterPolicy().trusts_own_proofs is False


def test_by_default_no_host_has_more_migrations_than_the_whole_cluster() -> None:
    limits = Limits()
    assert 1 <= limits.per_source <= limits.per_cluster
    assert 1 <= limits.per_target <= limits.per_cluster


def test_by_default_an_exit_restores_what_the_record_names_and_has_no_timeout() -> None:
    options = ExitOptions()
    assert options.restore is RestoreMode.RECORDED
    assert options.timeout_s == 0


def test_by_default_entering_uses_any_host_and_the_configured_timeout() -> None:
    options = EnterOptions()
    assert options.target_hosts == ()
    assert options.timeout_s is None


def test_by_default_a_guest_has_two_minutes_to_shut_down() -> None:
    assert ActionOptions().grace_s == 120


def test_stored_options_tell_by_their_kind_what_they_are_options_of() -> None:
    kinds: list[Options] = [EnterOptions(), ExitOptions(), ActionOptions()]
    assert [one.kind for one in kinds] == ["enter", "exit", "action"]
