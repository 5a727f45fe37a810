"""Strict JSON: one spelling per document, no duplicate keys, no NaN, and fields of the exact type asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dfqsam.errors import BundleError

NAMES = {int: "a whole number", str: "a text", dict: "an object", list: "a list"}


def canonical(document: Any) -> bytes:
    """The one spelling of a JSON document: sorted keys, two spaces, UTF-8, a newline at the end.

    Raises:
        BundleError: for a value that JSON does not know (NaN and infinities among them).
    """
    try:
        text = json.dumps(document, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False)
        return f"{text}\n".encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"The manifest cannot be written as JSON: {error}.") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BundleError("The manifest names a key twice; the bundle is damaged, make it again.")
    return found


def _no_constant(name: str) -> Any:
    raise BundleError(f"The manifest holds {name}, which is no JSON number; the bundle is damaged, make it again.")


def parse(data: bytes) -> Any:
    """The document in ``data``.

    Raises:
        BundleError: when it is no JSON in UTF-8, names a key twice, or holds NaN or an infinity.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError("The manifest is no valid JSON; the bundle is damaged, make it again.") from error


def fields(document: Any, types: Mapping[str, type], where: str) -> dict[str, Any]:
    """``document`` as a dict, once it has exactly the keys of ``types`` and each value has exactly that type.

    Raises:
        BundleError: for a missing or unknown key, or a value of another type (``true`` is no number).
    """
    if type(document) is not dict:
        raise BundleError(f"{where} is not an object; the bundle is damaged or of another format.")
    for key in types.keys() - document.keys():
        raise BundleError(f"{where} has no {key!r}; the bundle is damaged or of another format.")
    for key in document.keys() - types.keys():
        raise BundleError(f"{where} has an unknown key {key!r}; the bundle is damaged or of another format.")
    for key, kind in types.items():
        if type(document[key]) is not kind:
            raise BundleError(f"{where}: {key!r} is not {NAMES[kind]}; the bundle is damaged or of another format.")
    return document
