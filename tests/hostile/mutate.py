"""Sound files made unsound, by a generator with a seed: the same number gives the same file on every machine."""

import random

EDGES = (0, 1, 2, 127, 128, 254, 255)
HEAD = 700  # bytes in which most formats have what a reader trusts


def mutated(sound: bytes, seed: int) -> bytes:
    """``sound`` with one to five bytes changed, half of them near its beginning, and sometimes cut, grown, doubled, a
    piece repeated or another number written over four bytes."""
    draw = random.Random(seed)
    data = bytearray(sound)
    for _ in range(draw.randint(1, 5)):
        at = draw.randrange(min(len(data), HEAD) if draw.random() < 0.5 else len(data))
        data[at] = draw.choice(EDGES) if draw.random() < 0.5 else draw.randrange(256)
    how = draw.choice(("", "", "", "cut", "grown", "doubled", "repeated", "number", "digits"))
    at = draw.randrange(len(data))
    if how == "cut":
        del data[at:]
    elif how == "grown":
        data[at:at] = draw.randbytes(draw.randint(1, 8))
    elif how == "doubled":
        data *= 2
    elif how == "repeated":
        data[at:at] = data[at : at + draw.randint(1, 64)]
    elif how == "number":
        number = draw.choice((0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 20, 0))
        data[at : at + 4] = number.to_bytes(4, draw.choice(("little", "big")))
    elif how == "digits":
        data[at:at] = draw.choice((b"9" * 40, b"-1", b"1e999", b"NaN", b'"', b"\xff\xfe", b"[" * 3000, b"\0"))
    return bytes(data)
