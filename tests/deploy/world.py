"""The single file for devices, loaded as a device does: by its path, not as a part of the package."""

import importlib.util
from pathlib import Path
from types import ModuleType

DEPLOY = Path(__file__).parents[2] / "deploy"
EDGE = DEPLOY / "edge_infer.py"


def edge_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("edge_infer", EDGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
