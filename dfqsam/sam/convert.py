"""A checkpoint as safetensors: a header and numbers, which no reader has to run anything for."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from dfqsam.errors import InputError
from dfqsam.sam.allowed import file_sha256
from dfqsam.sam.checkpoint import read_state


@dataclass(frozen=True)
class Converted:
    """SHA-256 of the file that was read and of the one that was written, and how many tensors it holds."""

    source: str
    target: str
    tensors: int


def convert(checkpoint: Path, output: Path) -> Converted:
    """Write the tensors of ``checkpoint``, under SAM's names, to the new file ``output``; it appears whole.

    Raises:
        CheckpointError: as :func:`read_state`.
        InputError: when ``output`` is there already, is no ``.safetensors``, or cannot be written.
    """
    if output.suffix != ".safetensors":
        raise InputError(f"{output} is no safetensors file by its name; give one that ends in .safetensors.")
    if os.path.lexists(output):
        raise InputError(f"{output} is there already; name another file, or remove it.")
    # Tensors that share memory, as tied weights do, are written each by itself.
    state = {key: value.clone().contiguous() for key, value in read_state(checkpoint).items()}
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
            whole = Path(folder) / output.name
            save_file(state, whole)
            os.replace(whole, output)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{output} cannot be written ({error}).") from error
    return Converted(file_sha256(checkpoint), file_sha256(output), len(state))
