import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprecomputed.errors import InvalidInfoError
from xprecomputed.metadata import IDENTITY, MeshInfo, Transform


def document(transform):
    return {"@type": "neuroglancer_legacy_mesh", "transform": transform}


def test_rows_of_four_numbers_are_a_matrix_and_a_shift():
    # x' = 2y + 1, y' = z + 2, z' = 3x + 3, by hand
    transform = Transform((0, 2, 0, 1, 0, 0, 1, 2, 3, 0, 0, 3))
    assert transform.apply([[1, 10, 100]]).tolist() == [[21, 102, 6]]
    assert transform.inverse().apply([[21, 102, 6]]).tolist() == [[1, 10, 100]]


def test_the_identity_changes_and_copies_nothing():
    points = np.array([[1, 2, 3]], np.float32)
    assert IDENTITY.is_identity
    assert IDENTITY.apply(points) is points
    assert IDENTITY.inverse() is IDENTITY


@pytest.mark.parametrize(
    ("rows", "scale"),
    [
        ((2, 0, 0, 5, 0, 2, 0, 6, 0, 0, 2, 7), 2),
        ((0, -3, 0, 0, 3, 0, 0, 0, 0, 0, 3, 0), 3),  # with a turn
        ((8, 0, 0, 0, 0, 8, 0, 0, 0, 0, 40, 0), None),
        ((1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0), None),  # a shear
    ],
)
def test_the_scale_is_known_where_all_directions_grow_alike(rows, scale):
    assert Transform(rows).scale == (None if scale is None else pytest.approx(scale))


@given(st.lists(st.floats(-100, 100), min_size=12, max_size=12))
def test_the_inverse_undoes_a_transform(numbers):
    transform = Transform(tuple(numbers))
    if np.linalg.cond(transform.matrix[:, :3]) > 1e3:
        return
    points = np.array([[0, 0, 0], [1, -2, 3], [50, 60, 70]], float)
    there = points @ transform.matrix[:, :3].T + transform.matrix[:, 3]
    np.testing.assert_allclose(transform.inverse().apply(there), points, atol=0.1)


def test_it_is_computed_in_double_precision():
    # 1e7 * 3.3 in float32 would be off by 1 or 2
    transform = Transform((3.3, 0, 0, -33_000_000, 0, 1, 0, 0, 0, 0, 1, 0))
    assert transform.apply(np.array([[10_000_001, 0, 0]], np.float32))[0, 0] == pytest.approx(
        3.3, abs=1e-3
    )


@pytest.mark.parametrize(
    "bad",
    [
        [1] * 11,
        [0] * 12,
        [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, float("nan"), 0],
        [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, True, 0],
        "1 0 0 0",
        [1, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0],
        [1e308, 0, 0, 0, 0, 1e308, 0, 0, 0, 0, 1e308, 0],
    ],
)
def test_what_is_no_transform_is_refused(bad):
    with pytest.raises(InvalidInfoError, match=r"transform: expected 12 numbers, invertible"):
        MeshInfo.from_json(document(bad))


def test_the_spelling_is_kept():
    rows = [1, 0, 0, 0.5, 0, 1, 0, 0, 0, 0, 1, 0]
    assert MeshInfo.from_json(document(rows)).to_json()["transform"] == rows
