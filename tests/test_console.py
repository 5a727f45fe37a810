"""Tables on the terminal: values in words, names as they are."""

from __future__ import annotations

import pytest
from rich.console import Console

from dfqsam import console


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "not given"),
        (True, "yes"),
        (False, "no"),
        (3, "3"),
        (0.5, "0.5"),
        ([], "none"),
        ({}, "none"),
        (["box", "point"], "box, point"),
        (["1 slice missing.", "Gantry tilted."], "1 slice missing.\nGantry tilted."),
        ({"left": "R", "right": None}, "left R, right not given"),
        ({"prompts": ["box"], "kind": "self"}, "prompts box, kind self"),
    ],
)
def test_values_are_written_as_people_write_them(value, words):
    assert console._words(value) == words


@pytest.fixture
def printed(monkeypatch, capsys):
    def run(width: int, rows: dict) -> str:
        monkeypatch.setattr(console, "Console", lambda: Console(width=width, force_terminal=False))
        console.two_columns("Title", rows)
        return capsys.readouterr().out

    return run


def test_names_of_layers_keep_their_underscores(printed):
    assert "patch_embed.seq.2" in printed(80, {"patch_embed.seq.2": "MatMulInteger"})


def test_long_words_are_broken_and_not_cut(printed):
    said = printed(40, {"hash": "0123456789abcdef" * 4})
    assert "…" not in said
    assert "".join(letter for letter in said if letter in "0123456789abcdef").count("0123456789abcdef") == 4


def test_control_characters_are_shown_in_names_too(printed):
    said = printed(60, {"layer\x1b[2J": "\x1b]0;b\x07"})
    assert "\x1b" not in said
    assert "layer\N{REPLACEMENT CHARACTER}[2J" in said
