"""Options that verbs share, put on them in one place: what is trusted, what is tested first, what is logged."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from dfqsam import audit
from dfqsam.bundle import trust
from dfqsam.errors import DfqsamError

# As dfqsam.runtime.selftest and dfqsam.sam.allowed call them; these rooms load libraries that most verbs do not need.
SKIP_SELF_TEST = "DFQSAM_SKIP_SELF_TEST"
CHECKPOINTS = "DFQSAM_CHECKPOINTS"
Verb = Callable[..., Any]

AllowUnsigned = Annotated[
    bool, typer.Option("--allow-unsigned", help="Open bundles that no trusted key has signed; see dfqsam verify.")
]
SkipSelfTest = Annotated[
    bool, typer.Option("--skip-self-test", help="Do not test first whether this device computes what it must.")
]
Allowed = Annotated[
    Path | None,
    typer.Option("--allowed-checkpoints", help="Read only checkpoints whose SHA-256 is in this file of sha256sum's."),
]
Audit = Annotated[
    Path | None, typer.Option("--audit", help=f"Add to this audit log; without it, the one of {audit.VARIABLE}.")
]


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables while the block runs; they reach workers, which are processes of their own."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _extended(verb: Verb, options: dict[str, tuple[Any, Any]]) -> tuple[inspect.Signature, dict[str, Any]]:
    """The signature and annotations of ``verb`` with further options: name to type and default."""
    known = inspect.signature(verb, eval_str=True)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in options.items()
    ]
    hints = {**inspect.get_annotations(verb, eval_str=True), **{name: kind for name, (kind, _) in options.items()}}
    return known.replace(parameters=[*known.parameters.values(), *more]), hints


def audited(verb: Verb) -> Verb:
    """Gives a verb the option ``--audit``. The log is opened before the work begins, so that nobody works for hours and
    then cannot write what was done."""

    @functools.wraps(verb)
    def run(*arguments: Any, audit_log: Path | None, **options: Any) -> Any:
        with _environment({} if audit_log is None else {audit.VARIABLE: str(audit_log)}):
            if (path := audit.configured()) is not None:
                audit.AuditLog(path).close()
            return verb(*arguments, **options)

    signature, hints = _extended(verb, {"audit_log": (Audit, None)})
    run.__signature__, run.__annotations__ = signature, hints  # pyright: ignore[reportAttributeAccessIssue]
    return run


def reads_checkpoints(verb: Verb) -> Verb:
    """Gives a verb ``--allowed-checkpoints``."""

    @functools.wraps(verb)
    def run(*arguments: Any, allowed_checkpoints: Path | None, **options: Any) -> Any:
        with _environment({} if allowed_checkpoints is None else {CHECKPOINTS: str(allowed_checkpoints)}):
            return verb(*arguments, **options)

    signature, hints = _extended(verb, {"allowed_checkpoints": (Allowed, None)})
    run.__signature__, run.__annotations__ = signature, hints  # pyright: ignore[reportAttributeAccessIssue]
    return run


class _Opened(logging.Handler):
    """Says on standard error at once that an unsigned bundle is opened against the site's rule and logs that; keeps the
    other remarks for the end."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.remarks: dict[str, None] = {}
        self.overridden: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            self.remarks[record.getMessage()] = None
            return
        bundle, state = getattr(record, "bundle", ""), getattr(record, "state", "")
        if bundle not in self.overridden:
            self.overridden.add(bundle)
            print(record.getMessage(), file=sys.stderr)
            audit.record("override", bundle=bundle, state=state)


def opens_bundles(verb: Verb, computes: bool = True, says: bool = True) -> Verb:
    """Gives a verb ``--allow-unsigned``; where it ``computes`` masks, ``--skip-self-test`` too, and (where that is
    asked for by ``says``) a line at its end that says who signed what it opened."""

    @functools.wraps(verb)
    def run(*arguments: Any, allow_unsigned: bool, skip_self_test: bool = False, **options: Any) -> Any:
        values = ({trust.ALLOW: "1"} if allow_unsigned else {}) | ({SKIP_SELF_TEST: "1"} if skip_self_test else {})
        opened, level = _Opened(), trust.logger.level
        trust.logger.addHandler(opened)
        trust.logger.setLevel(logging.INFO)
        try:
            with _environment(values):
                return verb(*arguments, **options)
        except DfqsamError:
            opened.remarks.clear()
            raise
        finally:
            trust.logger.removeHandler(opened)
            trust.logger.setLevel(level)
            if opened.remarks and computes and says and not options.get("as_json"):
                print(*opened.remarks, sep="\n")

    more: dict[str, tuple[Any, Any]] = {"allow_unsigned": (AllowUnsigned, False)}
    signature, hints = _extended(verb, more | ({"skip_self_test": (SkipSelfTest, False)} if computes else {}))
    run.__signature__, run.__annotations__ = signature, hints  # pyright: ignore[reportAttributeAccessIssue]
    return run
