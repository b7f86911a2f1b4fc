"""SWC; the oracles are osteoid's own reader and writer, and text by hand."""

import re

import numpy as np
import osteoid
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.skeleton.paths import TURNED, random_tree, segments
from xprecomputed import errors
from xprecomputed.skeleton import parse_swc, read_swc, swc_text

HAND = """# ORIGINAL_SOURCE somebody
# SCALE 1.0 1.0 1.0

\t1  1\t 10 20.5 3e1 NA -1   # the soma
 4 2 11 21 31 5 1 and more
2 2.0 12 22 32 6 4\r
9 0 -1 -2 -3 .5 -1
"""


def test_by_hand():
    found = parse_swc(HAND, segment_id=5)
    assert found.id == 5
    assert found.space == "physical"
    assert found.vertices.tolist() == [[10, 20.5, 30], [11, 21, 31], [12, 22, 32], [-1, -2, -3]]
    assert found.edges.tolist() == [[1, 0], [2, 1]]
    assert found.radius.tolist() == [-1, 5, 6, 0.5]
    assert found.vertex_types.tolist() == [1, 2, 2, 0]
    assert [found.vertices.dtype, found.edges.dtype, found.radius.dtype] == ["f4", "u4", "f4"]
    assert found.vertices.flags.c_contiguous


def test_parents_may_come_later():
    assert parse_swc("2 0 0 0 0 1 1\n1 0 1 1 1 1 -1").edges.tolist() == [[0, 1]]


@pytest.mark.parametrize("text", ["", "# nothing\n\n"])
def test_no_vertex(text):
    found = parse_swc(text)
    assert found.empty()
    assert found.edges.shape == (0, 2)


@given(seed=st.integers(0, 2**32 - 1), trees=st.integers(0, 4), alone=st.integers(0, 3))
def test_there_and_back(seed, trees, alone):
    """Several components, vertices without an edge, any float32."""
    rng = np.random.default_rng(seed)
    parts = [random_tree(rng, int(rng.integers(2, 20))) for _ in range(trees)]
    edges = np.zeros((0, 2), np.uint32)
    vertices, radii = np.zeros((0, 3), np.float32), np.zeros(0, np.float32)
    for part in [*parts, *(osteoid.Skeleton([rng.normal(size=3)]) for _ in range(alone))]:
        edges = np.concatenate([edges, part.edges + np.uint32(len(vertices))])
        vertices = np.concatenate(
            [vertices, part.vertices * np.float32(10.0 ** rng.integers(-9, 9))]
        )
        radii = np.concatenate([radii, part.radius])
    shuffle = rng.permutation(len(vertices))
    there = osteoid.Skeleton(
        vertices[shuffle],
        np.argsort(shuffle).astype(np.uint32)[edges],
        radii[shuffle],
        rng.integers(0, 8, len(vertices)).astype(np.uint8),
        space="physical",
    )
    back = parse_swc(swc_text(there))
    assert len(back.vertices) == len(vertices)
    assert segments(back) == segments(there)
    np.testing.assert_array_equal(
        np.unique(back.vertices, axis=0), np.unique(there.vertices, axis=0)
    )
    assert (back.edges[:, 0] > back.edges[:, 1]).all()  # parents before their children


def test_osteoid_reads_it(rng):
    tree = random_tree(rng, 40, vertex_types=rng.integers(0, 5, 40).astype(np.uint8))
    tree.vertices = np.round(tree.vertices * 4) / 4  # osteoid keeps six decimals
    tree.radius = np.round(tree.radius)
    tree.transform = TURNED.matrix  # vertices are in nm already: nothing of it is in the text
    assert segments(osteoid.Skeleton.from_swc(swc_text(tree))) == segments(tree)
    assert segments(parse_swc(tree.to_swc())) == segments(tree)


def test_a_root_each():
    text = swc_text(
        osteoid.Skeleton(
            np.arange(15).reshape(5, 3).astype(np.float32),
            [(0, 1), (1, 2)],
            vertex_types=np.array([0, 0, 1, 0, 0]),
        )
    )
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [row[6] for row in rows] == ["-1", "1", "2", "-1", "-1"]
    assert rows[0] == ["1", "1", "6", "7", "8", "-1", "-1"]  # the soma


def test_types_that_are_stored_as_float():
    one = osteoid.Skeleton([(0, 0, 0)])
    one.vertex_types = np.array([[3.0]], np.float32)
    assert swc_text(one).endswith("\n1 3 0 0 0 -1 -1\n")


def test_edges_that_say_nothing():
    points = np.arange(6).reshape(2, 3).astype(np.float32)
    twice = osteoid.Skeleton(points, np.array([(0, 1), (1, 0), (1, 1), (0, 1)], np.uint32))
    assert parse_swc(swc_text(twice)).edges.tolist() == [[1, 0]]


@pytest.mark.parametrize("loop", [3, 50])
def test_cycles_are_not_cut(loop):
    points = np.arange(3 * loop).reshape(loop, 3).astype(np.float32)
    edges = np.array([(a, (a + 1) % loop) for a in range(loop)], np.uint32)
    with pytest.raises(errors.LayoutError, match="7: a cycle passes through vertex .*precomputed"):
        swc_text(osteoid.Skeleton(points, edges), "segment 7")


@pytest.mark.parametrize(
    "line",
    [
        "1 0 0 0 0 0",
        "one 0 0 0 0 0 -1",
        "1.5 0 0 0 0 0 -1",
        "1 256 0 0 0 0 -1",
        "1 -1 0 0 0 0 -1",
        "1 0.5 0 0 0 0 -1",
        "1 nan 0 0 0 0 -1",
        "1 inf 0 0 0 0 -1",
        "1 0 x 0 0 0 -1",
        "1 0 1e39 0 0 0 -1",
        "1 0 nan 0 0 0 -1",
        "-3 0 0 0 0 0 -1",
        "1 0 0 0 0 0 -2",
        "1 0 0 0 0 0 none",
        "1,0,0,0,0,0,-1",
    ],
)
def test_lines_that_are_none(line):
    message = f"a.swc, line 2: '{re.escape(line)}', expected whole id >= 0, type 0 to 255, finite x"
    with pytest.raises(errors.CorruptDataError, match=message):
        parse_swc(f"# header\n{line}", "a.swc")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 0 0 0 0 0 -1\n1 0 0 0 0 0 -1", "a.swc, line 2: vertex 1 for the second time"),
        ("1 0 0 0 0 0 2", "a.swc: vertex 1 has parent 2, which is none"),
        ("1 0 0 0 0 0 1", "a.swc: vertex 1 has parent 1, which is none"),
    ],
)
def test_what_is_no_forest(text, message):
    with pytest.raises(errors.CorruptDataError, match=message):
        parse_swc(text, "a.swc")


def test_files(tmp_path):
    path = tmp_path / "7.swc"
    path.write_bytes(b"# \xff\n1 0 8 8 8 2 -1\n")
    assert read_swc(path, 7).vertices.tolist() == [[8, 8, 8]]
    path.write_bytes(b"\x1f\x8b")
    with pytest.raises(errors.CorruptDataError, match="7.swc, line 1"):
        read_swc(path)


def test_the_mark_at_the_begin_of_a_file_is_forgiven():
    assert len(parse_swc("\ufeff1 0 1 2 3 4 -1").vertices) == 1
    assert parse_swc("1 0 1 2 3 1e39 -1").radius.tolist() == [-1]
