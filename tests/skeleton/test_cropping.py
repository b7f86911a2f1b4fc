"""The part of a skeleton in a box."""

import numpy as np
import osteoid
import pytest

from tests.skeleton.paths import TURNED, random_tree
from xprecomputed import errors
from xprecomputed.skeleton.cropping import cropped


def places(skeleton):
    """Each vertex with its attributes, and each edge by the places of its ends."""
    rows = np.column_stack([skeleton.vertices, skeleton.radius, skeleton.more])
    ends = skeleton.vertices[skeleton.edges].reshape(-1, 6)
    return rows.tolist(), sorted(ends.tolist())


@pytest.mark.parametrize("seed", range(8))
def test_what_is_inside(seed):
    rng = np.random.default_rng(seed)
    tree = random_tree(rng, 60, 5, more=rng.normal(size=(60, 2)))
    tree.extra_attributes.append({"id": "more", "data_type": "float32", "num_components": 2})
    tree.transform = TURNED.matrix
    before = tree.clone()
    part = cropped(tree, ((0, 100, 200), (700, 800, 950)))
    inside = (tree.vertices >= (0, 100, 200)).all(1) & (tree.vertices <= (700, 800, 950)).all(1)
    rows, ends = places(tree)
    assert places(part)[0] == [row for row, keep in zip(rows, inside, strict=True) if keep]
    kept = inside[tree.edges].all(1)
    assert places(part)[1] == sorted(tree.vertices[tree.edges[kept]].reshape(-1, 6).tolist())
    assert (part.id, part.space, part.edges.dtype) == (5, "physical", np.uint32)
    assert part.extra_attributes == tree.extra_attributes
    np.testing.assert_array_equal(part.transform, TURNED.matrix)
    assert tree == before
    expected = tree.crop(osteoid.Bbox((0, 100, 200), (700, 800, 950)))
    assert ends
    assert sorted(map(sorted, part.vertices[part.edges].tolist())) == sorted(
        map(sorted, expected.vertices[expected.edges].tolist())
    )


def test_axes_that_are_left_out(rng):
    tree = random_tree(rng)
    assert cropped(tree, {"y": slice(-1, 1001)}) == tree
    assert cropped(tree, {"z": (2000, 3000)}).empty()
    assert cropped(osteoid.Skeleton(), {"z": (2000, 3000)}).empty()
    with pytest.raises(errors.OutOfBoundsError, match="unknown axes"):
        cropped(tree, {"w": (0, 1)})
