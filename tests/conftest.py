import sys
import time
from dataclasses import dataclass

import pytest

BEGUN = time.monotonic()


def pytest_addoption(parser):
    parser.addoption("--minutes", type=float, help="skip, and say so, what has not begun after so many minutes")


def pytest_runtest_setup(item):
    minutes = item.config.getoption("--minutes")
    if minutes is not None and time.monotonic() - BEGUN >= 60 * minutes:
        pytest.skip(f"NOT tested: the {minutes:g} minutes that were given are over")


@pytest.fixture(scope="session", autouse=True)
def own_rules():
    """Neither this machine's trust store and audit log count, nor, but where it is asked for, the self-test of the
    device, which every process that segments would begin with."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DFQSAM_TRUST", "DFQSAM_ALLOW_UNSIGNED", "DFQSAM_CHECKPOINTS", "DFQSAM_AUDIT"):
            patch.delenv(name, raising=False)
        patch.setenv("DFQSAM_SKIP_SELF_TEST", "1")
        yield


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Checkpoints go into a folder of this test run, never into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DFQSAM_CACHE", str(tmp_path_factory.mktemp("checkpoints")))
        yield


@dataclass
class Done:
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def dfqsam(monkeypatch, capsys):
    """Runs the command line in the process of the test: what is patched holds in it."""
    from dfqsam.cli import main

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["dfqsam", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr()
        return Done(int(end.value.code or 0), shown.out, shown.err)

    return run


def pytest_terminal_summary(terminalreporter):
    """Say at the end what no test of this machine has seen."""
    from tests.app.browser import CHROMIUM, MISSING

    if CHROMIUM is None:
        terminalreporter.write_line(MISSING, yellow=True)
