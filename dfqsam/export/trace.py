"""torch to ONNX: opset 23, IR 11, one file without external data."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import onnx
import onnx_ir as ir
import torch
from onnx import ModelProto, numpy_helper
from onnxscript.optimizer import optimize_ir
from torch import Tensor, nn
from torch.export import Dim

from dfqsam.export.graphs import DecoderGraph, EncoderGraph
from dfqsam.export.integer_attention import write_out
from dfqsam.export.lowering import translations
from dfqsam.export.moves import round_before_moves
from dfqsam.export.pack import pack_weights, shorten_names, store_halves, store_rounded
from dfqsam.export.products import scale_at_run_time, split_products, write_matrices
from dfqsam.sam.fused import deployed_forms

OPSET, IR_VERSION = 23, 11
FOLDED = 256  # values; larger constants are not computed in advance, so that lists of tokens stay short


def to_onnx(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    names: list[str],
    outputs: list[str],
    dynamic: dict[str, Any],
) -> ModelProto:
    """``module`` as it computes on ``inputs``, with the operators of this project lowered; nothing is packed.

    Args:
        names, outputs: of the graph's inputs and outputs.
        dynamic: as torch.onnx.export takes it.
    """
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=names,
            output_names=outputs,
            dynamic_shapes=dynamic,
            custom_translation_table=translations(),
            external_data=False,
            optimize=False,
            verbose=False,
        )
        assert program is not None
        # Gathers of learned tables stay gathers (a device folds them when it loads), so that the file stays small.
        optimize_ir(program.model, input_size_limit=FOLDED, output_size_limit=FOLDED, should_fold=_should_fold)
    model = program.model_proto
    write_out(model)
    return tidy(model)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's and the optimizer's own remarks about their internals are no news to a user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _should_fold(node: ir.Node) -> bool | None:
    """Not what is done to integer weights, which keep their names and are packed; the rest by the optimizer's rules."""
    constants = [value.const_value for value in node.inputs if value is not None]
    return False if any(c is not None and c.dtype == ir.DataType.INT8 for c in constants) else None


def tidy(model: ModelProto) -> ModelProto:
    """Drops what is not needed to run (shapes of intermediate values, stack traces), for size and reproducibility."""
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "dfqsam", ""
    del model.metadata_props[:]
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    model.graph.doc_string = ""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        if node.op_type == "Attention":
            del node.output[1:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
        tensor.doc_string = ""
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.INT8) and not tensor.raw_data:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    onnx.checker.check_model(model, full_check=False)
    return model


@torch.no_grad()
def export_encoder(graph: EncoderGraph, size: int, plain: bool = False) -> ModelProto:
    """The encoder for pictures of up to ``size`` x ``size``; weights of at most 4 bits are packed, large floats that
    half precision holds are stored so, and those of 8 bits as integers.

    Args:
        plain: as the model is written, without the forms that run faster (:mod:`dfqsam.sam.fused`); what others
            compare with.
    """
    example = torch.zeros(size - 3, size - 5, 3, dtype=torch.uint8)
    dynamic = {"image": {0: Dim("height", min=1, max=size), 1: Dim("width", min=1, max=size)}}
    with nullcontext() if plain else deployed_forms(graph.encoder):
        model = to_onnx(graph, (example,), ["image"], ["embedding"], dynamic)
    write_matrices(model)
    round_before_moves(model)
    split_products(model)
    scale_at_run_time(model, "image")
    pack_weights(model)
    store_halves(model)
    store_rounded(model)  # what half precision does not hold
    shorten_names(model)
    return model


@torch.no_grad()
def export_decoder(graph: DecoderGraph, grid: int) -> ModelProto:
    """The decoder for embeddings of ``grid`` x ``grid`` and any number of points, rounded weights stored as INT8."""
    inputs = (
        torch.zeros(1, 256, grid, grid),
        torch.zeros(1, 3, 2),
        torch.ones(1, 3),
        torch.zeros(1, 1, 4 * grid, 4 * grid),
        torch.zeros(1),
    )
    names = ["embedding", "point_coords", "point_labels", "mask_input", "has_mask_input"]
    points = Dim("points", min=1, max=4096)
    dynamic: dict[str, Any] = dict.fromkeys(names)
    dynamic |= {"point_coords": {1: points}, "point_labels": {1: points}}
    model = to_onnx(graph, inputs, names, ["low_res_logits", "iou_predictions"], dynamic)
    write_matrices(model)
    scale_at_run_time(model, "point_coords")
    store_rounded(model)
    shorten_names(model)
    return model
