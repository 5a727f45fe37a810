"""Proof that an exported graph computes what the torch model computes.

Rounding to a grid makes a deep network chaotic: a difference of one float32 step flips a code here and there, each flip
moves the next layer's inputs by a whole step, and after a few layers two correct implementations differ by a share of
the quantization error itself (on LiteMedSAM at 8 bits 5 %: torch in float32 against float64, and ONNX Runtime against
itself with and without graph optimization). A comparison of the ends therefore says nothing about correctness. Here the
two run in lockstep: at every quantized layer the torch model is compared with the graph and then goes on from the
graph's own values, so that every stretch between two roundings is checked, and an error cannot hide behind chaos.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper
from torch import Tensor, nn

from dfqsam.errors import ParityError
from dfqsam.export.graphs import DecoderGraph, EncoderGraph
from dfqsam.export.moves import Makers, Moves, makers_of
from dfqsam.quant.encoder import quantized_layers
from dfqsam.quant.layers import CodedLayer

EMBEDDING_LIMIT = 1e-3
DICE_LIMIT = 0.999
Run = Callable[[ModelProto, NDArray[np.uint8]], dict[str, NDArray[np.float32]]]


@dataclass(frozen=True)
class EncoderParity:
    """Relative L2 differences between graph and model on one picture.

    Attributes:
        stretches: of the input of every quantized layer, by name, and of the ``embedding``; in lockstep.
        end_to_end: of the embedding when both run alone (chaotic once anything is quantized; for the record).
        embeddings: the graph's embedding and the model's in lockstep, each 1 x 256 x E x E.
    """

    stretches: dict[str, float]
    end_to_end: float
    embeddings: tuple[NDArray[np.float32], NDArray[np.float32]]

    @property
    def worst(self) -> tuple[str, float]:
        return max(self.stretches.items(), key=lambda item: item[1])


def relative_error(value: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """L2 norm of the difference over the L2 norm of the reference."""
    norm = float(np.linalg.norm(reference.astype(np.float64)))
    return float(np.linalg.norm(value.astype(np.float64) - reference.astype(np.float64))) / max(norm, 1e-12)


def open_session(model: ModelProto) -> ort.InferenceSession:
    """A CPU session for a model in memory."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def tapped(model: ModelProto, names: list[str]) -> tuple[ModelProto, dict[str, str]]:
    """A copy of ``model`` that also gives the inputs of quantized layers before they are rounded (or rescaled), laid
    out as in the model, and for each layer the output that holds them. One whose weights alone are rounded rounds none.

    Raises:
        ParityError: when a layer's codes are not in the graph, or what they are multiplied with is not behind a
            QuantizeLinear, or not the same for all of its products.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    makers = makers_of(model)
    found = {}
    for name in names:
        # A product in parts, or of several lots of tokens, has one source.
        (found[name], *others) = dict.fromkeys(
            _tap(name, product, readers, makers, copy) for product in _products(name, readers)
        )
        if others:
            raise ParityError(f"The products of the layer {name} do not round the same values in the exported graph.")
    known = {output.name for output in copy.graph.output}
    for tensor in dict.fromkeys(found.values()):
        if tensor not in known:
            copy.graph.output.append(helper.make_tensor_value_info(tensor, 1, None))
    return copy, found


def _products(name: str, readers: dict[str, list[NodeProto]]) -> list[NodeProto]:
    """All that multiply by weights of the layer ``name``; at least one."""
    found, tensors = list[NodeProto](), [f"encoder.{name}.codes"]
    while tensors:
        own = readers.get(tensors.pop(), [])
        if len({reader.op_type for reader in own}) != 1:
            raise ParityError(f"The exported graph has no integer weights for the layer {name}.")
        if own[0].op_type in ("MatMulInteger", "ConvInteger", "MatMulNBits"):
            found += own
        else:
            tensors += [reader.output[0] for reader in own]
    return found


def _tap(name: str, product: NodeProto, readers: dict[str, list[NodeProto]], makers: Makers, copy: ModelProto) -> str:
    """The tensor that a product of the layer ``name`` takes; one that the graph does not have is computed in ``copy``,
    once."""
    tensor = product.input[0]
    moves = Moves.behind(tensor, makers)
    if product.op_type == "MatMulNBits":
        return tensor if moves is None or not moves.in_parts else moves.parts[0]
    if moves is not None:
        values = [_before_rounding(name, part, readers, makers) for part in moves.parts]
        if moves.in_parts:
            return values[0]
        floats = f"{tensor}.floats"
        if all(node.output[0] != floats for node in copy.graph.node):
            copy.graph.node.extend(moves.of(values, floats))
        return floats
    while makers[tensor].op_type in ("Concat", "Slice", "Pad", "Transpose"):  # of codes
        tensor = makers[tensor].input[0]
    return _before_rounding(name, tensor, readers, makers)


def _before_rounding(name: str, codes: str, readers: dict[str, list[NodeProto]], makers: Makers) -> str:
    """What the layer ``name`` rounds to ``codes``, before it is rescaled."""
    if makers[codes].op_type != "QuantizeLinear":
        raise ParityError(f"The exported graph does not round the inputs of the layer {name}.")
    tensor = makers[codes].input[0]
    if makers[tensor].op_type == "Clip":
        tensor = makers[tensor].input[0]
    for part in ("divisor", "center"):
        if f"encoder.{name}.{part}" in readers:
            if f"encoder.{name}.{part}" not in makers[tensor].input:
                raise ParityError(f"The exported graph does not rescale the inputs of the layer {name}.")
            tensor = makers[tensor].input[0]
    if f"encoder.{name}.center" in readers and makers[tensor].op_type == "Pad":  # before it is moved
        tensor = makers[tensor].input[0]
    return tensor


def in_onnxruntime(model: ModelProto, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """What ``model`` gives for an RGB picture h x w x 3, by the names of its outputs."""
    session = open_session(model)
    outputs = [output.name for output in session.get_outputs()]
    return dict(zip(outputs, map(np.asarray, session.run(None, {"image": image})), strict=True))


@torch.no_grad()
def encoder_parity(
    model: ModelProto, graph: EncoderGraph, image: NDArray[np.uint8], run: Run = in_onnxruntime
) -> EncoderParity:
    """Compares ``model`` with ``graph`` on one RGB picture h x w x 3 (longest side = input size).

    Args:
        run: computes a graph, as :func:`in_onnxruntime` does; any other runtime can be compared the same way.
    """
    layers = quantized_layers(graph.encoder)
    with_taps, taps = tapped(model, list(layers))
    values = run(with_taps, image)
    picture = torch.from_numpy(image)
    alone = graph(picture).numpy()

    stretches: dict[str, float] = {}

    def follow(name: str, layer: CodedLayer) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
            theirs = torch.from_numpy(values[taps[name]])
            stretches[name] = relative_error(theirs.numpy(), inputs[0].numpy())
            return (theirs,)

        return layer.register_forward_pre_hook(hook)

    hooks = [follow(name, layer) for name, layer in layers.items()]
    try:
        ours = graph(picture).numpy()
    finally:
        for hook in hooks:
            hook.remove()
    theirs = values["embedding"]
    stretches["embedding"] = relative_error(theirs, ours)
    return EncoderParity(stretches, relative_error(theirs, alone), (theirs, ours))


@torch.no_grad()
def decoder_dice(
    model: ModelProto, graph: DecoderGraph, embeddings: tuple[NDArray[np.float32], NDArray[np.float32]], seed: int
) -> float:
    """Mean Dice between the masks of the ONNX decoder on the first embedding and of torch's on the second.

    Eight random boxes; a pair of empty masks counts as 1.
    """
    session = open_session(model)
    size = graph.prompt_encoder.input_image_size[0]
    grid = embeddings[0].shape[-1]
    rng = np.random.default_rng(seed)
    scores = []
    for _ in range(8):
        corner = rng.uniform(0, 0.6, 2)
        box = np.stack([corner, corner + rng.uniform(0.15, 0.4, 2)])[None] * size
        prompt = {
            "point_coords": box.astype(np.float32),
            "point_labels": np.array([[2, 3]], np.float32),
            "mask_input": np.zeros((1, 1, 4 * grid, 4 * grid), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
        }
        theirs = np.asarray(session.run(None, {"embedding": embeddings[0], **prompt})[0]) > 0
        tensors = [torch.from_numpy(value) for value in prompt.values()]
        ours = graph(torch.from_numpy(embeddings[1]), *tensors)[0].numpy() > 0
        both = int(theirs.sum()) + int(ours.sum())
        scores.append(2 * int((theirs & ours).sum()) / both if both else 1.0)
    return float(np.mean(scores))


def require_parity(parity: EncoderParity, dice: float) -> None:
    """Lets an export through or stops it.

    Raises:
        ParityError: naming the place and the size of the difference.
    """
    place, error = parity.worst
    if not error <= EMBEDDING_LIMIT:
        raise ParityError(
            f"The exported encoder differs from the model at {place} by {error:.1e} (limit {EMBEDDING_LIMIT:.0e})."
        )
    if not dice >= DICE_LIMIT:
        raise ParityError(f"The exported masks agree with the model's at Dice {dice:.4f} only (limit {DICE_LIMIT}).")
