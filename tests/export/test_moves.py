import numpy as np
import pytest
from onnx import TensorProto, helper

from dfqsam.export.moves import Moves, round_before_moves
from tests.export.test_products import model_of, run

GRID = {"step": np.float32(0.1), "zero": np.uint8(3), "low": np.float32(-0.3), "high": np.float32(1.2)}


def kinds(model):
    return [node.op_type for node in model.graph.node]


def makers(model):
    return {name: node for node in model.graph.node for name in node.output}


def node(kind, inputs, result, **attributes):
    return helper.make_node(kind, inputs.split(), [result], name=f"node_{result}", **attributes)


def in_lots(second_step="step"):
    """Rows 4, 0, 2 and then 1, 3, each lot rounded to four bits, one above the other."""
    nodes = [
        node("Reshape", "x rows", "flat"),
        node("Gather", "flat first", "a", axis=0),
        node("Gather", "flat others", "b", axis=0),
    ]
    for name, step in (("a", "step"), ("b", second_step)):
        nodes += [
            node("Clip", f"{name} low high", f"{name}c"),
            node("QuantizeLinear", f"{name}c {step} zero", f"{name}q"),
        ]
    nodes.append(node("Concat", "aq bq", "y", axis=0))
    constants = {"rows": np.array([-1, 2]), "first": np.array([4, 0, 2]), "others": np.array([1, 3]), **GRID}
    constants |= {"same": GRID["step"], "wider": np.float32(0.2)}
    return model_of(nodes, constants, x=(TensorProto.FLOAT, [5, 1, 2]), y=(TensorProto.UINT8, [5, 2]))


@pytest.mark.parametrize(("second_step", "roundings"), [("step", 1), ("same", 1), ("wider", 2)])
def test_lots_of_the_same_values_are_rounded_once_for_each_grid_and_moved_as_codes(second_step, roundings):
    model = in_lots(second_step)
    value = np.linspace(-0.6, 1.5, 10, dtype=np.float32).reshape(5, 1, 2)
    before = run(model, value)
    assert before.max() == 15
    assert round_before_moves(model) == 2
    assert kinds(model).count("QuantizeLinear") == kinds(model).count("Clip") == roundings
    (first, *_) = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    made = makers(model)
    assert made[first.input[0]].input[0] == "x"  # in its own shape
    for gather in (n for n in model.graph.node if n.op_type == "Gather"):
        assert made[made[gather.input[0]].input[0]].op_type == "QuantizeLinear"
    assert np.array_equal(run(model, value), before)
    codes = np.clip(np.rint(value[:, 0] / 0.1) + 3, 0, 15)
    if roundings == 1:
        assert np.array_equal(before, codes[[4, 0, 2, 1, 3]])
    assert round_before_moves(model) == 0


def put_together(clipped):
    nodes = [
        node("Neg", "x", "a"),
        node("Abs", "x", "b"),
        node("Concat", "a b", "both", axis=0),
        node("Gather", "both order", "sorted", axis=0),
        node("Reshape", "sorted shape", "z"),
    ]
    nodes += [node("Clip", "z low high", "c"), node("QuantizeLinear", "c step zero", "y")] if clipped else []
    nodes += [] if clipped else [node("QuantizeLinear", "z step zero", "y")]
    constants = {"order": np.array([3, 0, 2, 1]), "shape": np.array([2, 2, 3]), **GRID}
    return model_of(nodes, constants, x=(TensorProto.FLOAT, [2, 3]), y=(TensorProto.UINT8, [2, 2, 3]))


@pytest.mark.parametrize("clipped", [False, True])
def test_parts_are_rounded_before_they_are_put_together(clipped):
    model, value = put_together(clipped), np.array([[0.4, -0.25, 3], [-0.1, 0.74, -2]], np.float32)
    before = run(model, value)
    assert round_before_moves(model) == 1
    rounding = ["Clip", "QuantizeLinear"] if clipped else ["QuantizeLinear"]
    assert kinds(model) == ["Neg", "Abs", *rounding, *rounding, "Concat", "Gather", "Reshape"]
    assert model.graph.output[0].name == model.graph.node[-1].output[0] == "y"
    assert np.array_equal(run(model, value), before)


def test_the_same_moves_of_floats_give_what_is_rounded():
    model, value = put_together(False), np.array([[0.4, -0.25, 3], [-0.1, 0.74, -2]], np.float32)
    wanted = run(put_together(False), value)
    round_before_moves(model)
    moves = Moves.behind("y", makers(model))
    assert moves is not None
    assert not moves.in_parts
    sources = [makers(model)[part].input[0] for part in moves.parts]
    assert sources == ["a", "b"]
    model.graph.node.extend(moves.of(sources, "floats"))
    model.graph.node.append(node("QuantizeLinear", "floats step zero", "again"))
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.UINT8, None))
    del model.graph.output[0]
    assert np.array_equal(run(model, value), wanted)


def test_a_lot_is_told_from_what_a_layer_takes_whole():
    made = makers(in_lots())
    assert Moves.behind("a", made).in_parts
    assert Moves.behind("a", made).parts == ("x",)
    assert not Moves.behind("z", makers(put_together(False))).in_parts
    assert Moves.behind("flat", made) is None  # another shape is no move
    assert Moves.behind("x", made) is None


def test_what_is_rounded_where_it_stands_stays_as_it_is():
    nodes = [node("Reshape", "x shape", "flat"), node("QuantizeLinear", "flat step zero", "y")]
    constants = {"shape": np.array([-1]), "step": GRID["step"], "zero": GRID["zero"]}
    model = model_of(nodes, constants, x=(TensorProto.FLOAT, [2, 3]), y=(TensorProto.UINT8, [6]))
    before = model.SerializeToString()
    assert round_before_moves(model) == 0
    assert model.SerializeToString() == before


def test_floats_that_others_read_too_stay():
    nodes = [
        node("Gather", "x order", "z", axis=0),
        node("QuantizeLinear", "z step zero", "q"),
        node("DequantizeLinear", "q step zero", "d"),
        node("Sub", "z d", "y"),
    ]
    constants = {"order": np.array([1, 0]), "step": GRID["step"], "zero": GRID["zero"]}
    model = model_of(nodes, constants, x=(TensorProto.FLOAT, [2, 3]), y=(TensorProto.FLOAT, [2, 3]))
    value = np.array([[0.43, -0.25, 3], [-0.11, 0.74, -0.2]], np.float32)
    before = run(model, value)
    assert round_before_moves(model) == 1
    assert sorted(kinds(model)) == ["DequantizeLinear", "Gather", "Gather", "QuantizeLinear", "Sub"]
    assert np.array_equal(run(model, value), before)
