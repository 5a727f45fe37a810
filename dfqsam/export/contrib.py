"""ONNX Runtime's own operators that an exporter can write, described for it: onnx knows standard ones only."""

from __future__ import annotations

from typing import Any

from onnx.defs import OpSchema
from onnxscript.values import Op, Opset

DOMAIN, VERSION = "com.microsoft", 1


def _input(name: str, kind: str, optional: bool = False) -> OpSchema.FormalParameter:
    option = OpSchema.FormalParameterOption.Optional if optional else OpSchema.FormalParameterOption.Single
    return OpSchema.FormalParameter(name, kind, param_option=option)


def _schema() -> OpSchema:
    """https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits"""
    whole, floats = OpSchema.AttrType.INT, "tensor(float)"
    return OpSchema(
        "MatMulNBits",
        DOMAIN,
        VERSION,
        inputs=[
            _input("A", floats),
            _input("B", "tensor(uint8)"),
            _input("scales", floats),
            _input("zero_points", "tensor(uint8)", optional=True),
            _input("g_idx", "tensor(int32)", optional=True),
            _input("bias", floats, optional=True),
        ],
        outputs=[_input("Y", floats)],
        attributes=[OpSchema.Attribute(name, whole) for name in ("K", "N", "bits", "block_size", "accuracy_level")],
    )


matmul_nbits: Any = Op(Opset(DOMAIN, VERSION), "MatMulNBits", _schema())
