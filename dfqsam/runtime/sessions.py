"""ONNX Runtime sessions: on the CPU provider only, quiet, sparing of memory, from files that were verified."""

from __future__ import annotations

from functools import cache

import onnxruntime

from dfqsam.bundle import Bundle
from dfqsam.bundle.preflight import check_file
from dfqsam.errors import BundleError, InputError
from dfqsam.memory import return_freed_memory
from dfqsam.runtime.sealed import sealed

ERRORS_ONLY = 3
SAME_AS_REQUESTED = 1  # how an arena grows; the other way is by powers of two


def open_graph(bundle: Bundle, name: str, threads: int | None = None) -> onnxruntime.InferenceSession:
    """A session of the graph ``name`` of a bundle, from the very bytes that were verified; see :func:`session`.

    Raises:
        BundleError: also when the bundle has no such file, it was altered since the bundle was opened, or holds what a
            bundle may not hold (:mod:`dfqsam.bundle.preflight`).
    """
    with sealed(bundle, name) as model:
        check_file(model, name)
        return session(model, threads)


def session(model: str | bytes, threads: int | None = None) -> onnxruntime.InferenceSession:
    """A session of the ONNX model in ``model``.

    Args:
        model: path of a self-contained ONNX file, or its bytes, which take three times the memory while they load.
        threads: threads within an operator, at least 1; None for one a core.

    Raises:
        InputError: for fewer than 1 thread.
        BundleError: when ONNX Runtime cannot load the model.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    # A planned arena costs a second copy of the largest activations from the second run on (ViT-B: 1.4 to 2.4 GB).
    options.enable_mem_pattern = False
    # Threads of the encoder that go on spinning after its run slow the decoder's (LiteMedSAM, two cores: 65 for 43 ms).
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        if threads < 1:
            raise InputError(f"{threads} threads were asked for; give at least 1.")
        options.intra_op_num_threads = threads
    if _common_arena():
        options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        loaded = onnxruntime.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # which would try once more, with a banner on the terminal
        )
    except Exception as error:  # the library raises a class of its own for each kind of failure
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise BundleError(f"ONNX Runtime {onnxruntime.__version__} cannot load the model: {reason}") from error
    return_freed_memory()  # what loading took besides: weights as they were before they were packed
    return loaded


@cache
def _common_arena() -> bool:
    """Gives all sessions of the process one arena that grows by what is asked for, so that the decoder works in the
    memory that the encoder has left; whether that could be done."""
    where = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    try:
        onnxruntime.create_and_register_allocator(where, onnxruntime.OrtArenaCfg(0, SAME_AS_REQUESTED, -1, -1))
    except Exception:  # somebody else in this process has registered one: sessions then have arenas of their own
        return False
    return True


def check_signature(
    loaded: onnxruntime.InferenceSession, inputs: tuple[str, ...], outputs: tuple[str, ...], name: str
) -> None:
    """Raise BundleError unless the model has exactly these inputs and outputs."""
    found = {node.name for node in loaded.get_inputs()}, {node.name for node in loaded.get_outputs()}
    if found != (set(inputs), set(outputs)):
        takes, gives = (", ".join(sorted(names)) for names in found)
        raise BundleError(f"{name} takes {takes} and gives {gives}; this version of dfqsam expects other names.")
