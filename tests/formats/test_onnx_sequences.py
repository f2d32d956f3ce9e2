"""Sequences between the nodes of ONNX models, against lists of numpy arrays."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import load, make, run

from megengine_lite._core.formats.onnx.operators.sequences import MOST_PARTS
from megengine_lite.errors import LiteError, ModelFormatError, UnsupportedOperatorError

F, I64 = TensorProto.FLOAT, TensorProto.INT64
X = np.arange(30, dtype=np.float32).reshape(5, 6)


def node(op, inputs, outputs, name="", **attributes):
    return helper.make_node(op, inputs.split(" "), outputs.split(" "), name, **attributes)


def model(nodes, outputs=("y",), more=(), shape=("n", 6), **constants):
    arrays = {k: np.asarray(v) for k, v in constants.items()}
    return make(nodes, [("x", F, shape), *more], [(o, F, None) for o in outputs], arrays, 18)


THREE = [node("Neg", "x", "a"), node("Mul", "x x", "b"), node("SequenceConstruct", "x a b", "s")]


def listed():
    return [X, -X, X * X]


@pytest.mark.parametrize("place", [0, 1, 2, -1, -3])
def test_tensors_are_taken_put_in_and_taken_out(place):
    nodes = [
        *THREE,
        node("SequenceInsert", "s a p", "inserted"),
        node("SequenceErase", "s p", "erased"),
        node("SequenceAt", "s p", "at"),
        node("ConcatFromSequence", "inserted", "y0", axis=1),
        node("ConcatFromSequence", "erased", "y1", axis=-1, new_axis=1),
    ]
    inserted, erased = listed(), listed()
    inserted.insert(place, -X)
    del erased[place]
    y0, y1, at = run(load(model(nodes, ("y0", "y1", "at"), p=place)), x=X)
    np.testing.assert_array_equal(y0, np.concatenate(inserted, 1))
    np.testing.assert_array_equal(y1, np.stack(erased, -1))
    np.testing.assert_array_equal(at, listed()[place])


def test_without_a_position_the_last_one_is_meant():
    nodes = [
        node("SequenceEmpty", "", "none", dtype=F),
        node("SequenceInsert", "none x", "one"),
        node("Neg", "x", "a"),
        node("SequenceInsert", "one a", "two"),
        node("SequenceErase", "two", "again"),
        node("ConcatFromSequence", "two", "y"),
        node("ConcatFromSequence", "again", "z"),
    ]
    nodes[0].ClearField("input")
    y, z = run(load(model(nodes, ("y", "z"))), x=X)
    np.testing.assert_array_equal(y, np.concatenate([X, -X]))
    np.testing.assert_array_equal(z, X)


@pytest.mark.parametrize("axis", [0, 1, -2])
def test_an_axis_is_split_in_parts_of_one(axis):
    """The number of parts follows from the shape of the input, so the graph is made anew for another one."""
    for keeps in 0, 1:
        nodes = [node("SplitToSequence", "x", "s", axis=axis, keepdims=keeps), node("SequenceAt", "s p", "y")]
        network = load(model(nodes, p=-1))
        for x in (X, X[:3]):
            last = np.moveaxis(x, axis, 0)[-1]
            np.testing.assert_array_equal(run(network, x=x)[0], np.expand_dims(last, axis) if keeps else last)


@pytest.mark.parametrize("size", [1, 2, 4, 5, 9])
def test_an_axis_is_split_in_parts_of_a_size(size):
    nodes = [
        node("SplitToSequence", "x size", "s"),
        node("SequenceAt", "s last", "y"),
        node("SequenceLength", "s", "n"),
    ]
    made = model(nodes, size=size, last=-1)
    made.graph.output.append(helper.make_tensor_value_info("n", I64, []))
    y, n = run(load(made), x=X)
    expected = [X[k : k + size] for k in range(0, 5, size)]
    np.testing.assert_array_equal(y, expected[-1])
    assert n == [len(expected)]


def test_an_axis_is_split_by_lengths_that_may_be_computed():
    nodes = [node("SplitToSequence", "x lengths", "s", axis=1, keepdims=0), node("SequenceAt", "s p", "y")]
    for lengths in [1, 3, 2], [4, 0, 2]:
        begin = lengths[0]
        fixed = run(load(model(nodes, p=1, lengths=lengths)), x=X)[0]
        network = load(model(nodes, more=[("lengths", I64, [3])], p=1))
        for y in (fixed, run(network, x=X, lengths=np.int32(lengths))[0]):
            np.testing.assert_array_equal(y, X[:, begin : begin + lengths[1]])


def test_a_position_may_be_computed_among_tensors_of_one_shape():
    nodes = [*THREE, node("SequenceAt", "s p", "y")]
    network = load(model(nodes, more=[("p", I64, [])], shape=(5, 6)))
    for place in (0, 1, 2, -1, -2):
        np.testing.assert_array_equal(run(network, x=X, p=np.int32([place]))[0], listed()[place])


def test_branches_and_loops_read_sequences_from_outside():
    def graph(place, name):
        number = helper.make_tensor("p", I64, [], [place])
        made = [node("SequenceAt", "s p", name)]
        return helper.make_graph(made, "g", [], [helper.make_tensor_value_info(name, F, None)], [number])

    chosen = node("If", "c", "y", then_branch=graph(1, "t"), else_branch=graph(2, "e"))
    network = load(model([*THREE, chosen], more=[("c", TensorProto.BOOL, [])], shape=(5, 6)))
    for condition, expected in (True, -X), (False, X * X):
        np.testing.assert_array_equal(run(network, x=X, c=np.uint8([condition]))[0], expected)
    inner = helper.make_graph(
        [node("Identity", "more", "again"), node("SequenceAt", "s k", "t"), node("Add", "state t", "next")],
        "body",
        [helper.make_tensor_value_info(*v) for v in [("k", I64, []), ("more", 9, []), ("state", F, [5, 6])]],
        [helper.make_tensor_value_info(*v) for v in [("again", 9, []), ("next", F, [5, 6])]],
    )
    loop = node("Loop", "n  x", "y", body=inner)
    network = load(model([*THREE, loop], more=[("n", I64, [])], shape=(5, 6)))
    np.testing.assert_allclose(run(network, x=X, n=np.int32([3]))[0], X + sum(listed()), rtol=1e-6)


def test_branches_that_wait_for_shapes_read_sequences_from_outside():
    def graph(place, name):
        made = [node("SplitToSequence", "x", "rows"), node("SequenceLength", "rows", "count")]
        made += [node("SequenceAt", "s p", "t"), node("Cast", "count", "c", to=F), node("Mul", "t c", name)]
        number = helper.make_tensor("p", I64, [], [place])
        return helper.make_graph(made, "g", [], [helper.make_tensor_value_info(name, F, None)], [number])

    chosen = node("If", "c", "y", then_branch=graph(1, "a0"), else_branch=graph(2, "a1"))
    network = load(model([*THREE, chosen], more=[("c", TensorProto.BOOL, [])], shape=("n", 6)))
    for x in X, X[:2]:
        for condition, expected in (True, -x), (False, x * x):
            actual = run(network, x=x, c=np.uint8([condition]))[0]
            np.testing.assert_allclose(actual, expected * len(x), rtol=1e-6)


REFUSED = {
    "position": (node("SequenceAt", "s p", "y"), {"p": 3}, ModelFormatError, "no position 3 in a sequence of 3"),
    "insert": (node("SequenceInsert", "s x p", "t"), {"p": -4}, ModelFormatError, "no position -4"),
    "no sequence": (node("SequenceLength", "x", "y"), {}, ModelFormatError, "input 0 is no sequence"),
    "no tensor": (node("Relu", "s", "y"), {}, UnsupportedOperatorError, "Relu '.*input 0 is a sequence"),
    "parts": (node("SplitToSequence", "x p", "t"), {"p": 0}, ModelFormatError, "parts of 0 elements"),
    "type": (node("SequenceInsert", "s p", "t"), {"p": 1}, UnsupportedOperatorError, "they must be the same"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name):
    one, constants, kind, message = REFUSED[name]
    one.name = "it"
    nodes = [*THREE, one]
    if one.output[0] == "t":
        nodes.append(node("ConcatFromSequence", "t", "y"))
    with pytest.raises(kind, match=message):
        load(model(nodes, shape=(5, 6), **constants))


def test_sequences_have_few_parts():
    nodes = [node("SplitToSequence", "x", "s"), node("ConcatFromSequence", "s", "y")]
    with pytest.raises(LiteError, match=f"must not have more than {MOST_PARTS}"):
        load(model(nodes, shape=(MOST_PARTS + 1, 1)))


def with_sequences(made, *names):
    """A model whose outputs of these names are sequences."""
    for info in made.graph.output:
        if info.name in names:
            info.CopyFrom(helper.make_tensor_sequence_value_info(info.name, F, None))
    return made


def test_an_output_that_is_a_sequence_is_an_output_for_each_tensor():
    network = load(with_sequences(model([*THREE, node("Neg", "x", "y")], ("s", "y")), "s"))
    assert network.get_all_output_name() == ["s[0]", "s[1]", "s[2]", "y"]
    for ours, theirs in zip(run(network, x=X), [*listed(), -X], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    named = model([*THREE, node("Neg", "x", "s[1]")], ("s", "s[1]"))
    with pytest.raises(ModelFormatError, match=r"two outputs have the name 's\[1\]'"):
        load(with_sequences(named, "s"))
    empty = node("SequenceEmpty", "", "s", dtype=F)
    empty.ClearField("input")
    with pytest.raises(UnsupportedOperatorError, match="its outputs are empty sequences"):
        load(with_sequences(model([empty], ("s",)), "s"))
    later = model([node("SplitToSequence", "x", "s")], ("s",))
    with pytest.raises(UnsupportedOperatorError, match="how many tensors it has depends on the shapes of the inputs"):
        load(with_sequences(later, "s"))


def test_an_input_that_is_a_sequence_is_refused_with_a_way_out():
    made = model([node("SequenceAt", "t p", "y")], p=0)
    made.graph.input.append(helper.make_tensor_sequence_value_info("t", F, None))
    with pytest.raises(
        UnsupportedOperatorError, match=r"'t' \(it is no tensor; make an input of each tensor, and join them by"
    ):
        load(made)


def body(nodes, inputs, outputs):
    def infos(names):
        kinds = {"k": I64, "more": TensorProto.BOOL, "again": TensorProto.BOOL}
        sequences = [n for n in names if n[0] == "s"]
        return [
            helper.make_tensor_sequence_value_info(n, F, None)
            if n in sequences
            else helper.make_tensor_value_info(n, kinds.get(n, F), [] if n in kinds else None)
            for n in names
        ]

    return helper.make_graph(nodes, "body", infos(inputs.split(" ")), infos(outputs.split(" ")))


def test_a_graph_for_each_tensor_of_sequences():
    """With the tensors at the same place of another sequence, a tensor for all, and one of the graph around it."""
    inner = body([node("Mul", "p q", "r"), node("Add", "r z", "v"), node("Sub", "v x", "w")], "p q z", "v w")
    nodes = [
        *THREE,
        node("SequenceConstruct", "b x a", "t"),
        node("SequenceMap", "s t a", "u1 u2", "each", body=inner),
        node("ConcatFromSequence", "u1", "y"),
    ]
    made = with_sequences(model(nodes, ("y", "u2")), "u2")
    y, *rest = run(load(made), x=X)
    products = [p * q - X for p, q in zip(listed(), [X * X, X, -X], strict=True)]
    np.testing.assert_allclose(y, np.concatenate(products), rtol=1e-6)
    for ours, wanted in zip(rest, products, strict=True):
        np.testing.assert_allclose(ours, wanted - X, rtol=1e-6, atol=1e-6)
    nodes[3] = node("SequenceConstruct", "b x", "t")
    with pytest.raises(ModelFormatError, match="'each': its sequences have different numbers of tensors"):
        load(model(nodes))


def test_a_loop_that_collects_tensors_in_a_sequence():
    """As programs write it that append to a list; the condition may end it before the number of rounds does."""
    limit = helper.make_node("Constant", [], ["three"], value_int=3)
    grows = [node("Add", "v x", "v2"), node("SequenceInsert", "s v2", "s2"), node("Neg", "v2", "p")]
    ends = [limit, node("Less", "k three", "again")]
    inner = body([*grows, *ends], "k more v s", "again v2 s2 p")
    start = node("SequenceEmpty", "", "none", dtype=F)
    start.ClearField("input")
    nodes = [start, node("Loop", "n yes x none", "v_end s_end ps", "rounds", body=inner)]
    for n, rounds in ((9, 4), (2, 2)):
        made = with_sequences(model(nodes, ("v_end", "s_end", "ps"), n=n, yes=True), "s_end")
        made.graph.output[2].ClearField("type")
        v, *rest, ps = run(load(made), x=X)
        wanted = [X * (k + 2) for k in range(rounds)]
        np.testing.assert_allclose(v, wanted[-1])
        np.testing.assert_allclose(rest, wanted)
        np.testing.assert_allclose(ps, -np.stack(wanted))
    forever = body([*grows, node("Identity", "more", "again")], "k more v s", "again v2 s2 p")
    endless = [start, node("Loop", "n yes x none", "v_end s_end ps", "rounds", body=forever)]
    endless[1].input[0] = ""
    with pytest.raises(UnsupportedOperatorError, match="and 4096 rounds are not all that there are"):
        load(model(endless, ("v_end",), shape=(5, 6), yes=True))


def appending(more=(), outputs=(), first=(), uses=(), **constants):
    """A loop of n rounds, at most, that ends once the sum of x is reached; then come the nodes that read its lists."""
    starts = [node("SequenceEmpty", "", "none", dtype=F), node("SequenceEmpty", "", "no_sums", dtype=F)]
    for start in starts:
        start.ClearField("input")
    steps = [
        node("Add", "v x", "v2"),
        node("SequenceInsert", "s v2", "s2"),
        node("ReduceSum", "v2", "sum", keepdims=0),
        node("SequenceInsert", "t sum ", "t2"),
        node("Less", "sum limit", "again"),
        *uses,
    ]
    inner = body(steps, "k more s v t", "again s2 v2 t2")
    put_in = [node("SequenceInsert", "none x", "s0")] if first else [node("Identity", "none", "s0")]
    loop = node("Loop", "n yes s0 x no_sums", "s_end v_end t_end", "rounds", body=inner)
    inputs = [("n", I64, []), ("limit", F, [])]
    return model([*starts, *put_in, loop, *more], ("v_end", *outputs), inputs, yes=True, **constants)


@pytest.mark.parametrize("first", [False, True])
def test_a_loop_that_appends_while_what_it_computes_says_so(first):
    """As decoders are written: how many tensors its lists have is known only when the model runs."""
    more = [
        *(node("ConcatFromSequence", "s_end", f"new{k}", axis=k, new_axis=1) for k in (0, 1, 2, -1)),
        *(node("ConcatFromSequence", "s_end", f"joined{k}", axis=k) for k in (0, 1, -1)),
        node("ConcatFromSequence", "t_end", "sums", axis=0, new_axis=1),
        node("SequenceLength", "s_end", "count"),
        node("SequenceAt", "s_end last", "at"),
        node("SequenceAt", "s_end one", "at_one"),
    ]
    outputs = [*(f"new{k}" for k in (0, 1, 2, -1)), *(f"joined{k}" for k in (0, 1, -1))]
    outputs += ["sums", "count", "at", "at_one"]
    made = appending(more, outputs, first, last=-1, one=1)
    made.graph.output[9].type.tensor_type.elem_type = I64
    network = load(made)
    for x, n, limit, rounds in ((X, 9, 1600.0, 3), (X, 2, 1600.0, 2), (X[:2] * 0, 5, 1.0, 5)):
        v, *found = run(network, x=x, n=np.int32(n), limit=np.float32(limit))
        appended = [x * (k + 2) for k in range(rounds)]
        wanted = [x, *appended] if first else appended
        np.testing.assert_array_equal(v, wanted[-1])
        for result, axis in zip(found[:4], (0, 1, 2, -1), strict=True):
            np.testing.assert_array_equal(result, np.stack(wanted, axis))
        for result, axis in zip(found[4:7], (0, 1, -1), strict=True):
            np.testing.assert_array_equal(result, np.concatenate(wanted, axis))
        sums, count, at, at_one = found[7:]
        np.testing.assert_allclose(sums, [a.sum() for a in appended])
        assert count == len(wanted)
        np.testing.assert_array_equal(at, wanted[-1])
        np.testing.assert_array_equal(at_one, wanted[1])


def test_what_needs_to_know_how_many_tensors_a_loop_has_appended():
    """It is refused, and so is a loop that does more with its lists than to append to them."""
    unknown = "how many tensors its sequence has is known only when the model runs"
    for one in (node("SequenceInsert", "s_end x", "longer"), node("SequenceErase", "s_end", "longer")):
        nodes = [one, node("ConcatFromSequence", "longer", "y")]
        network = load(appending(nodes, ("y",)))
        with pytest.raises(UnsupportedOperatorError, match=f"'longer' .*{unknown}"):
            run(network, x=X, n=np.int32(9), limit=np.float32(9))
    output = with_sequences(appending((), ("s_end",)), "s_end")
    with pytest.raises(UnsupportedOperatorError, match=r"output 's_end' is a sequence, and how many .* ConcatFrom"):
        load(output)
    also = [node("SequenceLength", "s", "length"), node("Greater", "length k", "again")]
    made = appending(uses=also)
    graph = next(n for n in made.graph.node if n.op_type == "Loop").attribute[0].g
    del graph.node[4]  # the condition is what the length says
    network = load(made)
    with pytest.raises(UnsupportedOperatorError, match=r"'rounds'.*the number of rounds must be known here"):
        run(network, x=X, n=np.int32(9), limit=np.float32(9))


def test_graphs_inside_read_a_list_that_a_loop_has_appended_to():
    """A branch does, and another loop goes on with it."""
    branches = [
        helper.make_graph(
            [node("SequenceAt", "s_end k", "y")],
            name,
            [],
            [helper.make_tensor_value_info("y", F, None)],
            [helper.make_tensor("k", I64, [], [k])],
        )
        for name, k in (("then", 0), ("else", -1))
    ]
    inner = body(
        [node("Neg", "v", "v2"), node("SequenceInsert", "s v2", "s2"), node("Less", "k one", "again")],
        "k more v s",
        "again v2 s2",
    )
    more = [
        node("Less", "limit zero", "below"),
        node("If", "below", "y", then_branch=branches[0], else_branch=branches[1]),
        node("Loop", "n yes v_end s_end", "v_more s_more", body=inner),
        node("ConcatFromSequence", "s_more", "all", new_axis=1, axis=0),
    ]
    network = load(appending(more, ("y", "all"), zero=np.float32(0), one=np.int64(1)))
    for limit, rounds in ((1600.0, 3), (-1.0, 1)):
        v, y, joined = run(network, x=X, n=np.int32(9), limit=np.float32(limit))
        wanted = [X * (k + 2) for k in range(rounds)]
        np.testing.assert_array_equal(y, wanted[0 if limit < 0 else -1])
        np.testing.assert_array_equal(joined, [*wanted, -v, v])


def test_sequences_of_branches():
    def branch(*parts):
        return body([node("SequenceConstruct", " ".join(parts), "s")], "x", "s")

    def chosen(*branches):
        graphs = [branch(*parts) for parts in branches]
        for g in graphs:
            del g.input[:]
        one = node("If", "c", "t", "either", then_branch=graphs[0], else_branch=graphs[1])
        nodes = [
            *THREE[:2],
            node("ReduceSum", "x", "total", keepdims=0),
            node("Cast", "total", "c", to=TensorProto.BOOL),
        ]
        return with_sequences(model([*nodes, one], ("t",), shape=(5, 6)), "t")

    network = load(chosen("xa", "bx"))
    for x, wanted in ((X, [X, -X]), (X * 0, [X * 0, X * 0])):
        for ours, theirs in zip(run(network, x=x), wanted, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(UnsupportedOperatorError, match="its branches give sequences of different numbers of tensors"):
        load(chosen("xa", "b"))


def test_optional_values():
    nodes = [
        node("Optional", "x", "o"),
        node("OptionalHasElement", "o", "has"),
        node("OptionalGetElement", "o", "got"),
        node("Where", "has got zero", "y"),
    ]
    np.testing.assert_array_equal(run(load(model(nodes, zero=np.float32(0))), x=X)[0], X)
    nothing = node("Optional", "", "o", type=helper.make_tensor_type_proto(F, [1]))
    nothing.ClearField("input")
    absent = [nothing, nodes[1], node("Where", "has x zero", "y")]
    np.testing.assert_array_equal(run(load(model(absent, zero=np.float32(0))), x=X)[0], 0 * X)
    with pytest.raises(ModelFormatError, match="there is no element to get"):
        load(model([nothing, node("OptionalGetElement", "o", "y")]))
    with pytest.raises(UnsupportedOperatorError, match="its input 0 is an optional value that is not there"):
        load(model([nothing, node("Neg", "o", "y")]))
    made = model([nothing], ("o",))
    made.graph.output[0].type.CopyFrom(helper.make_optional_type_proto(helper.make_tensor_type_proto(F, [1])))
    with pytest.raises(UnsupportedOperatorError, match="output 'o' is an optional value that is not there"):
        load(made)
    made = model([node("OptionalGetElement", "x", "y")])
    made.graph.input[0].type.CopyFrom(helper.make_optional_type_proto(helper.make_tensor_type_proto(F, ["n", 6])))
    np.testing.assert_array_equal(run(load(made), x=X)[0], X)
