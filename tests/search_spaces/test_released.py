"""Checkpoints of the released MANAS search: which row is whose, and what the released code made of them."""

import pytest
import torch
from torch import nn

from manas.architecture.finding import load_space
from manas.errors import ManasError
from manas.restoration.network import RestorationSpace
from search_spaces.multi_scale_attentive import MultiScaleAttentive
from search_spaces.multi_scale_attentive.gates import PUBLISHED_GATES
from search_spaces.multi_scale_attentive.released import COLUMNS, PRIMITIVES

EDGES = ("node0/input", "node1/input", "node1/node0")
SMALL = MultiScaleAttentive(channels=(4, 8, 8), columns=(2, 1))  # 3 columns; 2 + 3 modules of 3 edges


def planted(rows, width, shift=0):
    """Logits whose row r prefers candidate (r + shift) % width."""
    table = torch.randn(rows, width)
    table[torch.arange(rows), (torch.arange(rows) + shift) % width] = 9.0
    return table


def checkpoint(columns=3, edges=15, **more):
    return {"arch_param": planted(columns, 2), "auto_param": planted(edges, 9), **more}


def preferred(space, content, reading="searched"):
    found = space.imported(content, reading)
    return {label: max(by_name, key=by_name.get) for label, by_name in found.items()}


@pytest.fixture(scope="module")
def manas():
    return load_space("manas")


def test_the_names_are_in_the_released_order():
    assert tuple(PUBLISHED_GATES)[: len(PRIMITIVES)] == PRIMITIVES
    assert len(PRIMITIVES) == 9
    assert COLUMNS == ("parallel", "fusion")  # horizontal first


def test_every_row_belongs_to_its_own_edge():
    chosen = preferred(SMALL, checkpoint())
    assert set(chosen) == set(SMALL.choices())
    assert [chosen[f"cell0/column{n}"] for n in (0, 1)] == ["parallel", "fusion"]
    assert chosen["cell1/column0"] == "parallel"
    modules = ["cell0/branch0", "cell0/branch1", "cell1/branch0", "cell1/branch1", "cell1/branch2"]
    row = 0
    for module in modules:
        for edge in EDGES:
            assert chosen[f"{module}/{edge}"] == PRIMITIVES[row % 9], (module, edge)
            row += 1


def test_the_rows_at_paper_size(manas):
    content = checkpoint(12, 27)
    content["auto_param"] = planted(27, 9, shift=4)
    chosen = preferred(manas, content)
    for label, row in {
        "cell0/branch0/node1/node0": 2,
        "cell0/branch1/node0/input": 3,
        "cell1/branch0/node1/input": 7,
        "cell2/branch0/node0/input": 15,
        "cell2/branch3/node1/node0": 26,
    }.items():
        assert chosen[label] == PRIMITIVES[(row + 4) % 9], label
    rows = {"cell0/column3": 3, "cell1/column0": 4, "cell2/column3": 11}
    assert {label: chosen[label] for label in rows} == {k: COLUMNS[row % 2] for k, row in rows.items()}


def test_what_the_released_code_read(manas):
    """As measured on its FixedMixedAutoNet: three rows a cell, the same for all of its branches."""
    content = checkpoint(12, 27)
    content["auto_param"] = planted(27, 9, shift=4)
    chosen = preferred(manas, content, "released")
    for cell, rows in enumerate([(0, 1, 2), (3, 4, 5), (6, 7, 8)]):
        for branch in range(cell + 2):
            found = [chosen[f"cell{cell}/branch{branch}/{edge}"] for edge in EDGES]
            assert found == [PRIMITIVES[(row + 4) % 9] for row in rows], (cell, branch)
    columns = [chosen[f"cell{cell}/column{n}"] for cell in range(3) for n in range(4)]
    assert columns == ["parallel", "fusion"] * 6
    assert set(chosen) == set(manas.choices())


@pytest.mark.parametrize("reading", ["searched", "released"])
def test_probabilities_are_the_softmax_of_the_row(reading):
    content = checkpoint()
    found = SMALL.imported(content, reading)["cell0/branch0/node1/input"]
    expected = content["auto_param"][1].double().softmax(0)
    assert found == pytest.approx(dict(zip(PRIMITIVES, expected.tolist(), strict=True)), rel=1e-12)
    columns = SMALL.imported(content, reading)["cell0/column1"]
    assert columns["fusion"] == pytest.approx(content["arch_param"][1].double().softmax(0)[1].item())


@pytest.mark.parametrize(("groups", "edges"), [(1, 1), (3, 6)])
def test_any_number_of_groups(groups, edges):
    space = MultiScaleAttentive(channels=(3, 6, 6), columns=(1, 1), attention={"groups": groups})
    content = {"arch_param": planted(2, 2), "auto_param": planted(5 * edges, 9)}
    own = preferred(space, content)
    shared = preferred(space, content, "released")
    last = [label for label in own if "/branch" in label][-edges:]  # the last module of the second cell
    assert [own[label] for label in last] == [PRIMITIVES[(4 * edges + n) % 9] for n in range(edges)]
    assert [shared[label] for label in last] == [PRIMITIVES[(edges + n) % 9] for n in range(edges)]


def test_gates_in_another_order_are_meant_by_name():
    turned = MultiScaleAttentive(
        channels=(4, 8, 8), columns=(2, 1), attention={"gates": tuple(reversed(PRIMITIVES))}
    )
    content = checkpoint()
    assert preferred(turned, content) == preferred(SMALL, content)


FORMS = {
    "tensor": lambda table: table,
    "with gradient": lambda table: table.requires_grad_(),
    "parameter": nn.Parameter,
    "double": torch.Tensor.double,
    "in a list": lambda table: [table],
    "parameter in a list": lambda table: [table.requires_grad_()],
    "list of rows": list,
    "tuple of rows": tuple,
    "list of lists": torch.Tensor.tolist,
    "with a batch dimension": lambda table: table[None],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table_is_read(form):
    content = checkpoint()
    given = {key: FORMS[form](table.clone()) for key, table in content.items()}
    assert SMALL.imported(given, "searched") == SMALL.imported(content, "searched")


def test_a_table_of_one_row_is_no_list_with_a_table():
    space = MultiScaleAttentive(channels=(4, 8), columns=(1,), attention=None)
    assert preferred(space, {"arch_param": torch.tensor([[0.0, 1.0]])}) == {"cell0/column0": "fusion"}
    assert preferred(space, {"arch_param": [torch.tensor([[0.0, 1.0]])]}) == {"cell0/column0": "fusion"}


def test_other_keys_do_not_matter():
    more = {"epoch": 3, "state_dict": {"weight": torch.zeros(2)}, "alphas_normal": None}
    content = checkpoint()
    assert SMALL.imported(content | more, "searched") == SMALL.imported(content, "searched")


def test_clearer_has_columns_alone():
    clearer = load_space("clearer")
    content = {"arch_param": planted(12, 2)}
    assert list(preferred(clearer, content).values()) == ["parallel", "fusion"] * 6
    assert preferred(clearer, content, "released") == preferred(clearer, content)
    with pytest.raises(ManasError, match=r"'auto_param' is 27 x 9, but .* need 0 x 9"):
        clearer.imported(checkpoint(12, 27), "searched")


def self_containing():
    loop: list = []
    loop.append(loop)
    return loop


def broken(table, row, value):
    table[row, 1] = value
    return table


BAD = {
    "missing": ({"epoch": 1, "state_dict": {}}, r"no 'arch_param' in .* it has 'epoch', 'state_dict'"),
    "empty": ({}, "no 'arch_param' .* it has no keys"),
    "many keys": ({f"layer{n}": 0 for n in range(30)}, "'layer7' and 22 more"),
    "one table": ({"arch_param": planted(3, 2)}, "no 'auto_param' in .* it has 'arch_param'"),
    "too few columns": (checkpoint(2, 15), "'arch_param' is 2 x 2, but .* need 3 x 2; .* --space"),
    "paper size": (checkpoint(3, 27), "'auto_param' is 27 x 9, but .* need 15 x 9"),
    "other candidates": (checkpoint() | {"auto_param": planted(15, 8)}, "15 x 8, but .* 15 x 9"),
    "a row": (checkpoint() | {"auto_param": torch.zeros(9)}, "'auto_param' is 9, but"),
    "a number": (checkpoint() | {"auto_param": 1.0}, "'auto_param' is a single number, but"),
    "a stack": (checkpoint() | {"arch_param": torch.zeros(2, 3, 2)}, "'arch_param' is 2 x 3 x 2, but"),
    "ragged": (
        checkpoint() | {"arch_param": [[0.0, 1.0], [0.0], [1.0, 0.0]]},
        "'arch_param' is no table of numbers .* 3 x 2",
    ),
    "text": (checkpoint() | {"arch_param": "012345"}, "'arch_param' is no table of numbers"),
    "nothing": (checkpoint() | {"arch_param": None}, "'arch_param' is no table of numbers"),
    "a mapping": (checkpoint() | {"arch_param": {"a": torch.zeros(3, 2)}}, "'arch_param' is no table"),
    "endless": (checkpoint() | {"arch_param": self_containing()}, "'arch_param' is no table of numbers"),
    "sparse": (checkpoint() | {"arch_param": torch.zeros(3, 2).to_sparse()}, "'arch_param' is no table"),
    "complex": (checkpoint() | {"arch_param": torch.zeros(3, 2) * 1j}, "'arch_param' is no table"),
    "NaN": (
        checkpoint() | {"auto_param": broken(planted(15, 9), 7, float("nan"))},
        "'auto_param' is NaN .* row 7;",
    ),
    "infinite": (
        checkpoint() | {"arch_param": broken(planted(3, 2), 2, float("inf"))},
        "'arch_param' .* row 2;",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_checkpoint_that_does_not_fit_is_refused(case):
    content, message = BAD[case]
    with pytest.raises(ManasError, match=message):
        SMALL.imported(content, "searched")


@pytest.mark.parametrize("gates", [PRIMITIVES[1:], ("none", "cbam")])
def test_a_space_with_other_gates_is_refused(gates):
    space = MultiScaleAttentive(channels=(4, 8, 8), columns=(2, 1), attention={"gates": gates})
    with pytest.raises(ManasError, match=r"the space has the gates .*cbam, and the released search has none"):
        space.imported(checkpoint(), "searched")


def test_a_space_with_other_columns_is_refused():
    space = MultiScaleAttentive(channels=(4, 8, 8), columns=(2, 1), column_candidates=("fusion",))
    with pytest.raises(ManasError, match="the space has the columns fusion, and the released"):
        space.imported(checkpoint(), "searched")


def test_a_space_without_importer_says_so():
    with pytest.raises(ManasError, match="no importer for the space 'restoration'"):
        RestorationSpace(towers={"derain": SMALL}).imported(checkpoint(), "searched")
