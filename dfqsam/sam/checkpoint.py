"""Reading checkpoint files without running anything that is in them."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from dfqsam.errors import CheckpointError
from dfqsam.sam.allowed import require_allowed
from dfqsam.sam.huggingface import is_hugging_face, sam_names

WRAPPERS = ("model", "state_dict", "model_state_dict")
PICKLES = (".pth", ".pt", ".bin")


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.pth``, ``.pt``, ``.bin`` or ``.safetensors`` file under SAM's key names.

    A wrapping dictionary (``model``, ``state_dict``), the prefix ``module.`` and Hugging Face's names are undone.

    Raises:
        CheckpointError: one sentence, for a file that is missing, damaged, of another kind, that would run code, or
            that the site's list of checkpoints (:mod:`dfqsam.sam.allowed`) does not name.
        InputError: when that list cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"There is no checkpoint {path}; check the path.")
    if not path.is_file():
        raise CheckpointError(f"{path} is a directory; give the checkpoint file itself.")
    if path.suffix not in (*PICKLES, ".safetensors"):
        raise CheckpointError(f"{path} is no checkpoint by its name; give a .pth, .pt, .bin or .safetensors file.")
    require_allowed(path)
    state = _tensors(_loaded(path), path)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    return sam_names(state) if is_hugging_face(state) else state


def _loaded(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on the pickle protocol; what matters is whether it loads
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # The zip container is whole, so what failed is the restricted unpickler: there is more than tensors inside.
        if _is_zip(path) or "Unsupported" in str(error) or "GLOBAL" in str(error):
            raise CheckpointError(
                f"{path} holds more than tensors and could run code when it is read; nothing was run. Use a file from "
                "a source that you trust, saved as a plain state dict or as safetensors."
            ) from None
        raise CheckpointError(f"{path} is no PyTorch checkpoint, or it is damaged; fetch it again.") from None
    except Exception as error:  # on damaged files the readers raise whatever they stumble over
        reason = str(error).splitlines()[0][:160].rstrip(". ") if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} cannot be read ({reason}); it is damaged or cut short, fetch it again."
        ) from None


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # the end of one, of an archive that spans several disks
        return False


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path} holds no state dict of named tensors; give a SAM checkpoint.")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path} holds {key!r}, which is no tensor; give a plain state dict of a SAM.")
    return dict(content)
