"""Wrong passwords cost time, for whoever guesses and for nobody else (SEC-02)."""

from __future__ import annotations

from furlough.access.throttle import Throttle


def guess(throttle: Throttle, account: str, address: str, now_s: float) -> float:
    """The instant at which this guess was made, after the wait that was asked for."""
    while (wait_s := throttle.wait_s(account, address, now_s)) > 0:
        now_s += wait_s
    return now_s


def test_the_first_tries_are_free_and_then_each_waits_longer() -> None:
    throttle = Throttle()
    assert [throttle.wait_s("a", "x", 0.0) for _ in range(3)] == [0, 0, 0]
    assert throttle.wait_s("a", "x", 0.0) == 1.0
    assert throttle.wait_s("a", "x", 1.0) == 0.0
    assert throttle.wait_s("a", "x", 1.0) == 2.0


def test_a_thousand_guesses_take_more_than_an_hour() -> None:
    throttle, now_s = Throttle(), 0.0
    for _ in range(1000):
        now_s = guess(throttle, "a", "x", now_s)
    assert now_s > 3600


def test_so_do_a_thousand_guesses_at_a_thousand_accounts_from_one_address() -> None:
    throttle, now_s = Throttle(), 0.0
    for number in range(1000):
        now_s = guess(throttle, f"user-{number}", "x", now_s)
    assert now_s > 3600


def test_the_user_gets_in_from_elsewhere_at_once() -> None:
    throttle, now_s = Throttle(), 0.0
    for _ in range(50):
        now_s = guess(throttle, "a", "x", now_s)
    assert throttle.wait_s("a", "x", now_s) > 0
    assert throttle.wait_s("a", "y", now_s) == 0


def test_success_forgets_and_so_does_an_hour() -> None:
    throttle = Throttle()
    for _ in range(4):
        throttle.wait_s("a", "x", 0.0)
    assert throttle.wait_s("a", "x", 0.0) > 0
    throttle.succeeded("a", "x")
    assert throttle.wait_s("a", "x", 0.0) == 0
    for _ in range(4):
        throttle.wait_s("b", "x", 0.0)
    assert throttle.wait_s("b", "x", 0.5) > 0
    assert throttle.wait_s("b", "x", 3601.0) == 0


def test_what_is_remembered_is_bounded() -> None:
    throttle = Throttle()
    for number in range(30_000):
        throttle.wait_s("a", f"address-{number}", 0.0)
    assert len(throttle._counts) <= 10_000
