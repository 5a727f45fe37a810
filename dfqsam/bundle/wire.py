"""Protocol-buffer messages read strictly, field by field, without copying what they hold and without any library.

Readers differ in what they make of odd messages: unknown fields are kept or dropped, a field given twice is merged or
replaced. So a message is taken only where every field is known, of the type that the schema gives, and given as often
as it may be; then there is nothing to differ about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dfqsam.errors import BundleError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types


@dataclass(frozen=True)
class Field:
    """What a schema says of a field: its name, its wire type, and whether it may be given several times. Numbers that
    may be given several times may also come packed, as bytes."""

    name: str
    wire: int = BYTES
    repeated: bool = False


Schema = Mapping[int, Field]
Message = dict[str, list]
Value = int | memoryview


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number at ``at`` (0 to 2^64 - 1) and where the next one begins."""
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, at
        shift += 7
        if shift > 63:
            break
    raise BundleError("a number is cut short or too long")


def _fields(data: memoryview) -> Iterator[tuple[int, int, Value]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield number, wire, value
            continue
        if wire == BYTES:
            length, at = _varint(data, at)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise BundleError(f"a field has the wire type {wire}")
        if length > len(data) - at:
            raise BundleError("a field is longer than what holds it")
        yield number, wire, data[at : at + length]
        at += length


def read(data: memoryview, schema: Schema, what: str) -> Message:
    """The fields of a message by name, each as a list of its values: numbers, or views of bytes.

    Raises:
        BundleError: part of a sentence, where the message is not as ``schema`` says or is damaged.
    """
    found: Message = {}
    for number, wire, value in _fields(data):
        field = schema.get(number)
        if field is None:
            raise BundleError(f"{what} has the field {number}, which nothing that dfqsam writes has")
        if wire != field.wire and not (field.repeated and wire == BYTES):
            raise BundleError(f"{what} has a {field.name} of another type")
        if field.name in found and not field.repeated:
            raise BundleError(f"{what} has two fields {field.name}")
        found.setdefault(field.name, []).append(value)
    return found


def numbers(values: list[Value]) -> list[int]:
    """The whole numbers of a repeated field, signed, whether they came one by one or packed.

    Raises:
        BundleError: part of a sentence, where packed ones are damaged.
    """
    found: list[int] = []
    for value in values:
        if isinstance(value, int):
            found.append(value)
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            found.append(number)
    return [number - (1 << 64) if number >> 63 else number for number in found]


def count(values: list[Value], wire: int) -> int:
    """How many numbers a repeated field holds, without reading them."""
    size = {FIXED32: 4, FIXED64: 8}.get(wire)
    total = 0
    for value in values:
        if isinstance(value, int):
            total += 1
        elif size is not None:
            total += len(value) // size
        else:  # every number ends in a byte below 128
            total += len(value.tobytes().translate(None, bytes(range(128, 256))))
    return total


def text(message: Message, name: str) -> str:
    """A field of text; empty where it is not given.

    Raises:
        BundleError: part of a sentence, where it is no UTF-8.
    """
    try:
        return "".join(bytes(value).decode() for value in message.get(name, []))
    except UnicodeDecodeError as error:
        raise BundleError(f"a {name} is no text") from error
