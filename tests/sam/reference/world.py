"""What the tests of this room share: a tiny bank and tiny settings."""

from functools import cache

from dfqsam.sam.reference.data import Bank, drawn
from dfqsam.sam.reference.settings import Settings


@cache
def tiny_bank() -> Bank:
    return drawn(3, 0)


def tiny_settings(steps: int, **changed) -> Settings:
    return Settings(**{"width": 32, "depth": 3, "batch": 1, "objects": 1, "steps": steps, "lr": 2e-3, **changed})
