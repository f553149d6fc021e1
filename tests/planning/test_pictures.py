"""Pictures and page of a plan: what is drawn, how large, and that no name becomes markup."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lxml import etree, html

from furlough.planning.pictures import MOST_ROWS, gantt_picture, load_picture, ticks
from furlough.planning.plan_page import page
from furlough.planning.what_if import HostLoad, Step, WhatIf
from tests.planning.boards import host, vm
from tests.planning.test_what_if import a_file, planned, three_hosts

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "<script>alert('&\"')</script>\x1b[31m\u202e"


def a_plan() -> WhatIf:
    return planned(three_hosts(vm("a", "h1", gib=32), vm("b", "h1"), vm("c", "h2")), "h1")


def drawn(picture: str) -> etree._Element:
    return etree.fromstring(picture.encode())


def bars(picture: str) -> list[tuple[str, float, float, str]]:
    """Every bar: what it says, where it begins, how long it is, its colour."""
    return [
        (bar[0].text or "", float(bar.get("x", "")), float(bar.get("width", "")),
         bar.get("fill", ""))
        for bar in drawn(picture).iter(f"{SVG}rect")
    ]  # fmt: skip


def texts(picture: str) -> list[str]:
    return [text.text or "" for text in drawn(picture).iter(f"{SVG}text")]


def test_each_host_has_a_bar_before_and_one_after_the_most_changed_one_first() -> None:
    found = bars(load_picture(a_plan()))
    assert [words for words, *_ in found[::2]] == [
        "h1: 62.5% before, 0.0% after",
        "h3: 0.0% before, 50.0% after",
        "h2: 12.5% before, 25.0% after",
    ]
    widths = [width for _, _, width, _ in found]
    assert widths == pytest.approx([387.5, 0.0, 0.0, 310.0, 77.5, 155.0])


def test_a_host_that_is_emptied_and_one_that_is_overfull_look_different() -> None:
    plan = replace(
        a_plan(),
        loads=(
            HostLoad(host="h1", before=0.5, after=0.1),
            HostLoad(host="h2", before=0.9, after=1.25),
            HostLoad(host="h3", before=0.2, after=0.3),
        ),
    )
    found = bars(load_picture(plan))
    assert len({colour for *_, colour in found[1::2]}) == 3
    assert max(left + width for _, left, width, _ in found) == pytest.approx(190 + 620)


def test_moves_are_bars_from_their_start_to_their_end_labelled_with_their_way() -> None:
    plan = a_plan()
    picture = gantt_picture(plan)
    found = bars(picture)
    assert len(found) == len(plan.steps) == 2
    for step, (words, left, width, _) in zip(plan.steps, found, strict=True):
        assert f"{step.vm_name}: h1 to {step.target}, {step.start_s:.1f} s to" in words
        assert left == pytest.approx(190 + 620 * step.start_s / plan.makespan_s, abs=0.1)
        assert width == pytest.approx(620 * step.duration_s / plan.makespan_s, abs=0.1)
        assert f"h1 → {step.target}" in texts(picture)


def a_step(name: str = "x", **changes: object) -> Step:
    step = Step(
        vm_uuid="u", vm_name=name, source="h1", target="h2", wave=0, start_s=0.0,
        duration_s=5.0, downtime_ms=100, is_detour=False,
    )  # fmt: skip
    return replace(step, **changes)  # type: ignore[arg-type]


def test_the_label_of_a_move_stands_where_it_covers_no_name_and_leaves_no_picture() -> None:
    steps = (a_step(duration_s=1.0), a_step(start_s=9.0, duration_s=1.0), a_step(duration_s=10.0))
    picture = gantt_picture(replace(a_plan(), steps=steps))
    labels = [one for one in drawn(picture).iter(f"{SVG}text") if "→" in (one.text or "")]
    behind, before, inside = labels
    assert (float(behind.get("x", "")), behind.get("text-anchor")) == (190 + 62 + 6, "start")
    assert (float(before.get("x", "")), before.get("text-anchor")) == (190 + 558 - 6, "end")
    assert (float(inside.get("x", "")), inside.get("text-anchor")) == (190 + 6, "start")
    assert behind.get("fill") == before.get("fill") != inside.get("fill")


def test_a_detour_and_a_vm_that_makes_room_are_told_apart() -> None:
    steps = (a_step(is_detour=True), a_step(source="h2"), a_step(start_s=20.0))
    found = bars(gantt_picture(replace(a_plan(), steps=steps)))
    assert "h1 to h2, to wait there, 0.0 s" in found[0][0]
    assert found[0][3] == found[2][3] != found[1][3]


def test_many_moves_are_drawn_up_to_a_limit_and_the_rest_is_counted() -> None:
    steps = tuple(a_step(f"vm{number}") for number in range(MOST_ROWS + 7))
    picture = gantt_picture(replace(a_plan(), steps=steps))
    assert len(bars(picture)) == MOST_ROWS
    assert texts(picture)[-1] == "7 more moves are not shown"


@pytest.mark.parametrize(
    ("length_s", "expected"),
    [
        (1.0, [0.2, 0.4, 0.6, 0.8, 1.0]),
        (60.0, [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]),
        (7200.0, [1000.0, 2000.0, 3000.0, 4000.0, 5000.0, 6000.0, 7000.0]),
    ],
)
def test_axes_have_round_seconds(length_s: float, expected: list[float]) -> None:
    assert ticks(length_s) == pytest.approx(expected)


def test_names_are_text_whatever_they_say() -> None:
    vms = [{**vm("a", "h1"), "name": EVIL}, {**vm("b", "h1"), "name": EVIL, "power": "error"}]
    document = three_hosts(*vms)
    plan = planned(document, "h1")
    seen = gantt_picture(plan) + load_picture(plan) + page(plan)
    assert "<script" not in seen
    assert "\x1b" not in seen
    assert "\u202e" not in seen
    clean = "<script>alert('&\"')</script>?[31m?"
    assert bars(gantt_picture(plan))[0][0].startswith(clean)
    assert clean in [cell.text for cell in html.fromstring(page(plan)).iter("td")]


def test_a_long_name_is_cut_beside_the_picture_and_whole_where_one_points_at_it() -> None:
    name = "n" * 60
    picture = gantt_picture(replace(a_plan(), steps=(a_step(name),)))
    assert f"{'n' * 25}…" in texts(picture)
    assert bars(picture)[0][0].startswith(f"{name}:")


def words_of(plan: WhatIf) -> str:
    """What the page of a plan says."""
    return " ".join(str(part) for part in html.fromstring(page(plan)).itertext())


def test_the_page_needs_nothing_from_elsewhere_and_says_everything() -> None:
    vms = [vm("a", "h1"), vm("b", "h1", on_maintenance="leave")]
    plan = planned(three_hosts(*vms), "h1")
    text = page(plan)
    tree = html.fromstring(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "img", "iframe"} & {node.tag for node in tree.iter()}
    assert not [node for node in tree.iter() if {"src", "href"} & set(node.attrib)]
    words = words_of(plan)
    assert "1 migrations (no plan takes fewer than 1)" in words
    assert "its policy for maintenance says leave" in words
    assert plan.hash in words
    assert "2026-11-22 10:00:00 UTC" in words
    assert len(list(tree.iter("{*}svg"))) == 2


def test_the_page_tells_rules_and_reserves_that_are_not_kept() -> None:
    vms = [
        vm("a", "h1", gib=40, affinity_groups=["web"]),
        vm("b", "h2", gib=40, affinity_groups=["web"], host_affinity=["h2"]),
        vm("c", "h3", gib=20),
    ]
    words = words_of(planned(three_hosts(*vms, reserve="n+1"), "h1"))
    assert "If h3 were lost too, 1 of its VMs would find no room (N+1)." in words
    assert "Not held: affinity group web (a, b)." in words


def test_a_plan_without_moves_has_a_page_without_a_timetable() -> None:
    words = words_of(planned(a_file([host("h1")], []), "h1"))
    assert "0 migrations" in words
    assert "The moves in time" not in words
