"""What the witness concludes from lines: stays, gaps, doubles. No lab is needed."""

from pathlib import Path

from furlough.lab.witness import Sighting, VmReport, read, report


def lines(
    host: str, start: float, counters: range, *, boot: str = "aaaaaaaa", vm: str = "vm1"
) -> list[Sighting]:
    """Lines of a VM on a host, one each 100 ms from `start`."""
    return [
        Sighting(at=start + number / 10, vm=vm, host=host, boot=boot, counter=counter)
        for number, counter in enumerate(counters)
    ]


def story(*parts: list[Sighting], since: float = 0.0, until: float = 1000.0) -> VmReport:
    """The report about vm1 of these lines together."""
    seen = sorted((line for part in parts for line in part), key=lambda line: line.at)
    return report(seen, ["vm1"], since=since, until=until)[0]


def test_a_vm_that_never_printed_is_reported_all_the_same() -> None:
    told = story()
    assert (told.host, told.lines, told.quiet_ms, told.longest_gap) == (None, 0, None, None)
    assert told.stays == ()
    assert told.doubles == ()


def test_a_live_migration_shows_as_two_stays_and_the_gap_between_them() -> None:
    told = story(lines("h1", 100, range(50)), lines("h2", 105.25, range(50, 100)), until=111)
    assert [stay.host for stay in told.stays] == ["h1", "h2"]
    assert told.longest_gap is not None
    assert told.longest_gap.milliseconds == 350
    assert (told.longest_gap.source, told.longest_gap.target) == ("h1", "h2")
    assert told.longest_gap.since == 104.9
    assert told.doubles == ()
    assert told.host == "h2"
    assert told.quiet_ms == 850


def test_quick_moves_back_and_forth_are_no_double() -> None:
    told = story(
        lines("h1", 100, range(10)),
        lines("h2", 101.1, range(10, 13)),
        lines("h1", 101.5, range(13, 20)),
        lines("h2", 102.3, range(20, 30)),
    )
    assert [stay.host for stay in told.stays] == ["h1", "h2", "h1", "h2"]
    assert told.doubles == ()


def test_a_collector_that_sees_the_last_line_late_makes_no_double() -> None:
    late = Sighting(at=105.2, vm="vm1", host="h1", boot="aaaaaaaa", counter=50)
    told = story(lines("h1", 100, range(50)), [late], lines("h2", 105.1, range(51, 100)))
    assert told.doubles == ()


def test_a_lost_line_makes_a_longer_gap_and_nothing_else() -> None:
    told = story(lines("h1", 100, range(10)), lines("h1", 101.1, range(11, 20)))
    assert told.longest_gap is not None
    assert told.longest_gap.milliseconds == 200
    assert len(told.stays) == 1


def test_a_source_that_resumes_while_the_target_runs_is_a_double() -> None:
    """The lost finish answer: the source is paused for 30 s and then goes on where it was."""
    told = story(
        lines("h1", 100, range(50)),
        lines("h2", 105.2, range(50, 450)),
        lines("h1", 135, range(50, 100)),
    )
    assert len(told.doubles) == 1
    assert told.doubles[0].hosts == ("h1", "h2")
    assert told.doubles[0].since == 135
    assert told.doubles[0].until == 139.9


def test_a_double_is_found_though_the_other_copy_lost_lines_in_between() -> None:
    told = story(
        lines("h1", 100, range(50)),
        lines("h2", 105.2, range(50, 60)),
        lines("h2", 106.4, range(62, 450)),
        lines("h1", 135, range(50, 100)),
    )
    assert told.doubles[-1].until == 139.9


def test_moments_lived_twice_are_a_double_though_never_at_once() -> None:
    """The target's copy was killed before the source's went on from the same moment."""
    told = story(
        lines("h1", 100, range(50)),
        lines("h2", 105.2, range(50, 100)),
        lines("h1", 135, range(50, 100)),
    )
    assert [double.hosts for double in told.doubles] == [("h1", "h2")]


def test_a_vm_started_on_two_hosts_is_a_double_though_the_boots_differ() -> None:
    told = story(
        lines("h1", 100, range(100)),
        lines("h2", 104, range(50), boot="bbbbbbbb"),
    )
    assert [(double.since, double.until) for double in told.doubles] == [(104, 108.9)]


def test_a_restart_on_another_host_is_neither_gap_nor_double() -> None:
    told = story(
        lines("h1", 100, range(50)),
        lines("h2", 160, range(50), boot="bbbbbbbb"),
    )
    assert told.longest_gap is not None
    assert told.longest_gap.milliseconds == 100
    assert told.doubles == ()


def test_a_reboot_on_the_same_host_stays_one_stay_of_two_boots() -> None:
    told = story(lines("h1", 100, range(50)), lines("h1", 110, range(50), boot="bbbbbbbb"))
    assert [(stay.host, stay.boots) for stay in told.stays] == [("h1", 2)]


def test_two_vms_on_one_host_are_told_apart() -> None:
    seen = sorted(
        lines("h1", 100, range(50)) + lines("h1", 100.05, range(900, 950), vm="vm2"),
        key=lambda line: line.at,
    )
    told = report(seen, ["vm1", "vm2"], until=106)
    assert [(one.vm, one.lines, len(one.stays)) for one in told] == [("vm1", 50, 1), ("vm2", 50, 1)]


def test_since_leaves_out_what_was_over_and_keeps_a_gap_that_ended_later() -> None:
    told = story(
        lines("h1", 100, range(10)),
        lines("h1", 105, range(10, 20)),
        lines("h2", 106.9, range(20, 30)),
        since=106.5,
    )
    assert [stay.host for stay in told.stays] == ["h2"]
    assert told.longest_gap is not None
    assert told.longest_gap.milliseconds == 1000
    assert told.lines == 10


def test_logs_are_read_in_the_order_of_time_and_a_half_written_line_is_left_out(
    tmp_path: Path,
) -> None:
    (tmp_path / "one").write_text("102.000 vm1 aaaaaaaa 2\n103.000 vm1 aaaa")
    (tmp_path / "two").write_text("101.000 vm1 aaaaaaaa 1\n")
    logs = {"h1": tmp_path / "one", "h2": tmp_path / "two", "h3": tmp_path / "none"}
    assert [(line.host, line.counter) for line in read(logs)] == [("h2", 1), ("h1", 2)]
