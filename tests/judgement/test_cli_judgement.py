import csv
import json
import sqlite3
from contextlib import closing
from functools import partial

import pytest

from dfqsam.judgement.schema import STATEMENTS
from tests.judgement.world import FIGURES, KEY, fill, new_store, subject


@pytest.fixture
def judgements(dfqsam):
    """Runs the verb."""
    return partial(dfqsam, "judgements")


@pytest.fixture
def site(tmp_path):
    """A folder with a store of six judgements, and its head."""
    with new_store(tmp_path) as store:
        fill(store)
        return tmp_path, store.head


def test_it_says_what_was_judged(judgements, site):
    folder, head = site
    done = judgements(folder / "judgements.sqlite")
    assert (done.returncode, done.stderr) == (0, "")
    assert "judgements 6, raters 2, studies 3" in done.stdout
    assert "accepted 2, rejected 2 (leak 2)" in done.stdout
    assert "neither 0; for the left side 2; draws without a vote 0" in done.stdout
    assert "The chain is whole.\n" in done.stdout
    assert done.stdout.endswith(f"Head, to be noted elsewhere: {head}\n")
    assert (folder / "judgements.sqlite").exists()


def test_what_people_and_scripts_read_is_the_same(judgements, tmp_path):
    with new_store(tmp_path) as store:
        for study in ("1", "2"):
            for rater in ("anna", "bernd"):
                store.accept(subject(rater, study), FIGURES)
        store.reject(subject("anna", "2"), FIGURES, "image")
        for i, rater in enumerate(("anna", "bernd", "chen")):
            draw = store.draw(subject(rater, "1"))
            choice = ("left" if draw.left == "quantized" else "right") if i else "equal"
            store.vote(draw.id, subject(rater).rater, choice, FIGURES)
        store.draw(subject("dilek"))
    done = judgements(tmp_path / "judgements.sqlite")
    assert "preferred, blinded: quantized 2, full precision 0, neither 1; for the left side" in done.stdout
    assert "draws without a vote 1" in done.stdout
    # With two of two, the exact lower limit is the square root of 0.025, and Wilson's 2 / (2 + z^2).
    assert (
        "quantized in 100.0 % of votes for either; 95 % interval 15.8 to 100.0 % (Clopper-Pearson), 34.2" in done.stdout
    )
    names = sorted(KEY.rater(name)[:14] for name in ("anna", "bernd"))
    assert f"{names[0]} and {names[1]}: kappa 0.00 of verdict, 50 % of 2 the same" in done.stdout
    document = json.loads(judgements(tmp_path / "judgements.sqlite", "--json").stdout)
    assert document["head"] in done.stdout
    assert document["verdicts"] == {"accept": 4, "reject": 1, "prefer": 3}
    assert document["preference"]["quantized"] == 2
    assert document["preference"]["exact"] == pytest.approx([0.025**0.5, 1])
    assert document["open_draws"] == 1
    assert document["agreement"]["verdict"][0]["kappa"] == {"n": 2, "observed": 0.5, "expected": 0.5, "kappa": 0.0}


def test_an_empty_store_says_so(judgements, tmp_path):
    new_store(tmp_path).close()
    done = judgements(tmp_path / "judgements.sqlite")
    assert done.returncode == 0
    assert "judgements 0, raters 0, studies 0\naccepted 0, rejected 0\nThe chain is whole." in done.stdout
    assert json.loads(judgements(tmp_path / "judgements.sqlite", "--json").stdout)["preference"]["share"] is None


def test_the_csv(judgements, site):
    folder, _ = site
    done = judgements(folder / "judgements.sqlite", "--csv", folder / "out.csv")
    assert (done.returncode, f"{folder / 'out.csv'}: 6 judgements" in done.stdout) == (0, True)
    with (folder / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == ["accept", "reject", "prefer"] * 2
    assert sorted(path.name for path in folder.iterdir()) == ["judgements.sqlite", "out.csv"]


def test_the_csv_does_not_replace_the_store(judgements, site):
    folder, head = site
    done = judgements(folder / "judgements.sqlite", "--csv", folder / "x" / ".." / "judgements.sqlite")
    assert done.returncode == 2
    assert "is the store itself" in done.stderr
    assert judgements(folder / "judgements.sqlite", "--verify", head).returncode == 0


def test_a_head_that_was_noted_still_holds_after_more_judgements(judgements, site):
    folder, head = site
    with new_store(folder) as store:
        fill(store, 2)
    done = judgements(folder / "judgements.sqlite", "--verify", head)
    assert done.returncode == 0
    assert "The chain is whole, and goes on from the head that was noted." in done.stdout


def tamper(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for name in ("no_update", "no_delete", "only_next"):
            connection.execute(f"DROP TRIGGER {name}")
        for statement in (*statements, *STATEMENTS[1:]):
            connection.execute(statement)


def test_tampering_is_exit_code_1(judgements, site):
    folder, head = site
    path = folder / "judgements.sqlite"
    tamper(path, "DELETE FROM entries WHERE sequence = 9")
    assert judgements(path).returncode == 0
    done = judgements(path, "--verify", head, "--csv", folder / "out.csv")
    cut = "Error: The log ends after 8 entries, and the head noted before says 9; 1 were cut off.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", cut)
    assert not (folder / "out.csv").exists()
    tamper(path, "UPDATE entries SET body = replace(body, 'leak', 'empty') WHERE sequence = 3")
    done = judgements(path, "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: Entry 3 does not match its hash; it was altered.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.sqlite"], "nowhere.sqlite cannot be read (No such file or directory)."),
        (["text.csv"], "text.csv is no SQLite file; name a file that dfqsam has made."),
        (["judgements.sqlite", "--verify", "abc"], "'abc' is no head of a log"),
        (["judgements.sqlite", "--csv", "no/where.csv"], "no/where.csv cannot be written"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(judgements, site, monkeypatch, arguments, said):
    folder, _ = site
    (folder / "text.csv").write_text("time,rater\n1,2\n3,4\n")
    monkeypatch.chdir(folder)
    done = judgements(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
