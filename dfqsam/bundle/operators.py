"""The operators that a graph of a bundle may be made of, by domain.

All of them compute outputs from inputs and nothing else. Those of ONNX that hold graphs (If, Loop, Scan, SequenceMap),
handle texts, sequences and optional values, draw at random, decode pictures or say at run time how large a result is to
be (Range, TopK, NonZero, NonMaxSuppression) are left out: no SAM needs them.
"""

from __future__ import annotations

_STANDARD = """
Abs Add And Ceil Clip Cos Div Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity LeakyRelu
Less LessOrEqual Log LogSoftmax Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Sigmoid Sign Sin
Softmax Softplus Sqrt Sub Sum Swish Tanh Where Xor BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor

ArgMax ArgMin CumSum ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare

Attention AveragePool BatchNormalization Conv ConvTranspose Einsum Gemm GlobalAveragePool GlobalMaxPool
GroupNormalization InstanceNormalization LayerNormalization MatMul MaxPool RMSNormalization

Cast CastLike Concat Constant ConstantOfShape DepthToSpace Expand Flatten Gather GatherElements GatherND Pad Reshape
Resize ScatterElements ScatterND Shape Size Slice SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze

ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul QuantizeLinear
"""
# ONNX Runtime's own: integer kernels and fused ones that the standard has no word for.
_MICROSOFT = """
BiasGelu DequantizeLinear DynamicQuantizeMatMul FastGelu FusedConv FusedMatMul Gelu MatMulIntegerToFloat MatMulNBits
MultiHeadAttention QAttention QGemm QLinearAdd QLinearConcat QLinearMul QLinearSigmoid QLinearSoftmax QuantizeLinear
QuickGelu SkipLayerNormalization
"""
STANDARD, MICROSOFT = frozenset(_STANDARD.split()), frozenset(_MICROSOFT.split())
DOMAINS = {"": STANDARD, "ai.onnx": STANDARD, "com.microsoft": MICROSOFT}
