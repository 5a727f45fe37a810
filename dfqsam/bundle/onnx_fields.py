"""The messages of ONNX's format (onnx.proto) as far as a bundle may hold them: number of a field to what it is.

Fields of which any is refused, such as functions, are named too, so that an error can say what they are.
"""

from __future__ import annotations

from dfqsam.bundle.wire import FIXED32, FIXED64, VARINT, Field

PAIR = {1: Field("key"), 2: Field("value")}
MODEL = {
    1: Field("ir_version", VARINT),
    2: Field("producer_name"),
    3: Field("producer_version"),
    4: Field("domain"),
    5: Field("model_version", VARINT),
    6: Field("doc_string"),
    7: Field("graph"),
    8: Field("opset_import", repeated=True),
    14: Field("metadata_props", repeated=True),
    20: Field("training_info", repeated=True),
    25: Field("functions", repeated=True),
}
OPSET = {1: Field("domain"), 2: Field("version", VARINT)}
GRAPH = {
    1: Field("node", repeated=True),
    2: Field("name"),
    5: Field("initializer", repeated=True),
    10: Field("doc_string"),
    11: Field("input", repeated=True),
    12: Field("output", repeated=True),
    13: Field("value_info", repeated=True),
    15: Field("sparse_initializer", repeated=True),
    16: Field("metadata_props", repeated=True),
}
NODE = {
    1: Field("input", repeated=True),
    2: Field("output", repeated=True),
    3: Field("name"),
    4: Field("op_type"),
    5: Field("attribute", repeated=True),
    6: Field("doc_string"),
    7: Field("domain"),
    8: Field("overload"),
    9: Field("metadata_props", repeated=True),
}
ATTRIBUTE = {
    1: Field("name"),
    2: Field("f", FIXED32),
    3: Field("i", VARINT),
    4: Field("s"),
    5: Field("t"),
    6: Field("g"),
    7: Field("floats", FIXED32, repeated=True),
    8: Field("ints", VARINT, repeated=True),
    9: Field("strings", repeated=True),
    11: Field("graphs", repeated=True),
    13: Field("doc_string"),
    20: Field("type", VARINT),
    21: Field("ref_attr_name"),
}
TENSOR = {
    1: Field("dims", VARINT, repeated=True),
    2: Field("data_type", VARINT),
    4: Field("float_data", FIXED32, repeated=True),
    5: Field("int32_data", VARINT, repeated=True),
    7: Field("int64_data", VARINT, repeated=True),
    8: Field("name"),
    9: Field("raw_data"),
    10: Field("double_data", FIXED64, repeated=True),
    11: Field("uint64_data", VARINT, repeated=True),
    12: Field("doc_string"),
    13: Field("external_data", repeated=True),
    14: Field("data_location", VARINT),
    16: Field("metadata_props", repeated=True),
}
VALUE = {1: Field("name"), 2: Field("type"), 3: Field("doc_string"), 4: Field("metadata_props", repeated=True)}
TYPE = {1: Field("tensor_type"), 6: Field("denotation")}
TENSOR_TYPE = {1: Field("elem_type", VARINT), 2: Field("shape")}
SHAPE = {1: Field("dim", repeated=True)}
DIMENSION = {1: Field("dim_value", VARINT), 2: Field("dim_param"), 3: Field("denotation")}
NUMBERS = {
    "float_data": FIXED32,
    "int32_data": VARINT,
    "int64_data": VARINT,
    "double_data": FIXED64,
    "uint64_data": VARINT,
}
