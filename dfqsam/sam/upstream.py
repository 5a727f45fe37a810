"""SAM's own prompt encoder and mask decoder, from the ``segment_anything`` package, without torchvision."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

from dfqsam.errors import InputError


def segment_anything(name: str) -> ModuleType:
    """The module ``segment_anything.<name>``.

    The package's ``__init__`` imports torchvision for helpers that are not used here; where that fails, the package is
    entered without running it.

    Raises:
        InputError: when the package is not installed.
    """
    package = "segment_anything"
    if package not in sys.modules:
        found = importlib.util.find_spec(package)
        if found is None or found.submodule_search_locations is None:
            raise InputError(
                "The package segment-anything is missing; install it with: pip install 'dfqsam[quantize]'."
            )
        try:
            importlib.import_module(package)
        except (ImportError, RuntimeError):
            for half_done in [m for m in sys.modules if m == package or m.startswith(f"{package}.")]:
                del sys.modules[half_done]
            module = ModuleType(package)
            module.__path__ = list(found.submodule_search_locations)
            module.__spec__ = found
            sys.modules[package] = module
    return importlib.import_module(f"{package}.{name}")
