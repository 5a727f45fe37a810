"""The libraries of the extra ``studies``, loaded when a study needs them and not before."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from dfqsam.errors import InputError


def studies(module: str) -> Any:
    """The module of that name from nibabel, pydicom or highdicom.

    Raises:
        InputError: when its library is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise InputError(f"This file needs {name}; install it with: pip install 'dfqsam[studies]'.") from error
