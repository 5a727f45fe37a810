"""ONNX Runtime sessions: on the CPU provider only, quiet, from bytes that were verified."""

from __future__ import annotations

import onnxruntime

from dfqsam.errors import BundleError, InputError

ERRORS_ONLY = 3


def session(model: bytes, threads: int | None = None) -> onnxruntime.InferenceSession:
    """A session of the ONNX model in ``model``.

    Args:
        model: the bytes of a self-contained ONNX file.
        threads: threads within an operator, at least 1; None for one a core.

    Raises:
        InputError: for fewer than 1 thread.
        BundleError: when ONNX Runtime cannot load the model.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    # A planned arena costs a second copy of the largest activations from the second run on (ViT-B: 1.4 to 2.4 GB).
    options.enable_mem_pattern = False
    if threads is not None:
        if threads < 1:
            raise InputError(f"{threads} threads were asked for; give at least 1.")
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises a class of its own for each kind of failure
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise BundleError(f"ONNX Runtime {onnxruntime.__version__} cannot load the model: {reason}") from error


def check_signature(
    loaded: onnxruntime.InferenceSession, inputs: tuple[str, ...], outputs: tuple[str, ...], name: str
) -> None:
    """Raise BundleError unless the model has exactly these inputs and outputs."""
    found = {node.name for node in loaded.get_inputs()}, {node.name for node in loaded.get_outputs()}
    if found != (set(inputs), set(outputs)):
        takes, gives = (", ".join(sorted(names)) for names in found)
        raise BundleError(f"{name} takes {takes} and gives {gives}; this version of dfqsam expects other names.")
