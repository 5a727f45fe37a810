"""Progress: a bar on a terminal; elsewhere nothing for what is quick, and a line at times for what is not."""

from __future__ import annotations

import io

import pytest

from dfqsam import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that go by only where a test says so."""

    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_a_terminal_sees_a_bar_with_description_count_and_values(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress.stage("Compensating weights", 3) as advance:
        advance(2, loss=0.25)
        advance()
    seen = terminal.getvalue()
    assert "Compensating weights" in seen
    assert "3/3" in seen
    assert "loss 0.25" in seen


def test_a_stage_inside_a_stage_gets_a_bar_of_its_own(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    for _ in progress.track(2, "Cases"):
        for _ in progress.track([1, 2, 3], "Slices"):
            pass
    assert "2/2" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
    assert not progress._shown


def test_a_log_hears_nothing_of_what_takes_less_than_a_minute(clock, capsys):
    for _ in progress.track(59, "Images"):
        clock.now += 1
    assert capsys.readouterr() == ("", "")


def test_a_log_hears_at_most_once_a_minute_how_far_it_is_and_at_the_end_that_it_is_done(clock, capsys):
    with progress.stage("Reconstructing blocks", 10) as advance:
        for _ in range(10):
            clock.now += 25
            advance(error=0.5)
    assert capsys.readouterr().err.splitlines() == [
        "Reconstructing blocks: 3 of 10  error 0.5, 1 min",
        "Reconstructing blocks: 6 of 10  error 0.5, 2 min",
        "Reconstructing blocks: 9 of 10  error 0.5, 4 min",
        "Reconstructing blocks: done, 4 min",
    ]


def test_a_log_is_not_told_that_something_is_done_that_failed(clock, capsys):
    def fail() -> None:
        with progress.stage("Measuring") as advance:
            clock.now += 100
            advance()
            clock.now += 100
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert capsys.readouterr().err == "Measuring: 1, 2 min\n"
