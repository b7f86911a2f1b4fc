"""Skeletons for tests, and comparing them."""

import numpy as np
import osteoid

from xprecomputed.metadata import SkeletonInfo, Transform, VertexAttribute

RADIUS = VertexAttribute(id="radius")
TYPES = VertexAttribute(id="vertex_types", data_type="uint8")
#: turned by a quarter around z, twice as large, moved
TURNED = Transform((0, -2, 0, 100, 2, 0, 0, -50, 0, 0, 2, 8))
STRETCHED = Transform((16, 0, 0, 1600, 0, 16, 0, -320, 0, 0, 40, 1200))


def info_of(*attributes, **members):
    return SkeletonInfo(vertex_attributes=attributes, **members)


def random_tree(rng, vertices=20, segment_id=None, **members):
    """In nm; every vertex but the first hangs on an earlier one."""
    parents = [rng.integers(0, child) for child in range(1, vertices)]
    edges = np.array([*zip(range(1, vertices), parents, strict=True)], np.uint32).reshape(-1, 2)
    tree = osteoid.Skeleton(
        rng.uniform(0, 1000, (vertices, 3)).astype(np.float32),
        edges,
        rng.uniform(1, 90, vertices).astype(np.float32),
        segid=segment_id,
        space="physical",
    )
    for name, values in members.items():
        setattr(tree, name, values)
    return tree


def assert_same(found, expected, attributes=("radius",), **tolerance):
    """Vertex for vertex, edge for edge, in the same order."""
    compare = np.testing.assert_allclose if tolerance else np.testing.assert_array_equal
    compare(found.vertices, expected.vertices, **tolerance)
    np.testing.assert_array_equal(found.edges, expected.edges)
    for name in attributes:
        expected_values = np.asarray(getattr(expected, name)).squeeze()
        compare(np.asarray(getattr(found, name)).squeeze(), expected_values, **tolerance)


def segments(skeleton):
    """The edges as pairs of places with radius and type, in no order."""
    what = np.column_stack([skeleton.vertices, skeleton.radius, skeleton.vertex_types])
    rows = [tuple(row) for row in what.tolist()]
    return sorted(tuple(sorted((rows[a], rows[b]))) for a, b in np.asarray(skeleton.edges))
