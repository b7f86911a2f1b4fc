"""The affine maps of mesh and skeleton directories, stored model to nm (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xprecomputed.metadata._checks import number

__all__ = ["IDENTITY", "Transform"]

_UNCHANGED = (1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)


@dataclass(frozen=True, slots=True)
class Transform:
    """Three rows of four numbers ``[R, t]``: ``nm = R @ stored + t`` (format reference 5.2).

    Parameters
    ----------
    numbers : tuple of 12 int or float
        Row by row, as the document spells them.

    Examples
    --------
    >>> halved = Transform((0.5, 0, 0, 10, 0, 0.5, 0, 0, 0, 0, 0.5, 0))
    >>> halved.apply([[2, 4, 6]])
    array([[11.,  2.,  3.]], dtype=float32)
    >>> halved.scale, halved.inverse().apply([[11, 2, 3]]).tolist()
    (0.5, [[2.0, 4.0, 6.0]])
    """

    numbers: tuple[float, ...] = _UNCHANGED

    @classmethod
    def read(cls, value: Any) -> Transform:
        """Parse the member of a document, for a `Checker`."""
        if not isinstance(value, list | tuple) or len(value) != 12:
            raise TypeError
        transform = cls(tuple(number(each) for each in value))
        with np.errstate(all="ignore"):
            volume = abs(np.linalg.det(transform.matrix[:, :3]))
        if not np.finfo(float).tiny <= volume < np.inf:
            raise ValueError
        return transform

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Shape (3, 4)."""
        return np.array(self.numbers, float).reshape(3, 4)

    @property
    def is_identity(self) -> bool:
        """Whether nothing is changed."""
        return tuple(self.numbers) == _UNCHANGED

    @property
    def scale(self) -> float | None:
        """By how much every length grows; None where that depends on the direction."""
        linear = self.matrix[:, :3]
        scale = float(np.linalg.norm(linear[0]))
        is_uniform = np.allclose(linear @ linear.T, scale**2 * np.eye(3), rtol=1e-6, atol=0)
        return scale if is_uniform or self.is_identity else None

    def inverse(self) -> Transform:
        """From nm to the stored model."""
        if self.is_identity:
            return self
        linear = np.linalg.inv(self.matrix[:, :3])
        rows = np.column_stack([linear, -linear @ self.matrix[:, 3]])
        return Transform(tuple(rows.ravel().tolist()))

    def apply(self, points: ArrayLike) -> NDArray[np.float32]:
        """Map points.

        Parameters
        ----------
        points : array_like, shape (N, 3)
            x, y, z; computed in float64. Returned as they are where nothing is to be done.

        Returns
        -------
        ndarray of float32, shape (N, 3)
        """
        if self.is_identity:
            return np.asarray(points, np.float32)
        matrix = self.matrix
        mapped = np.asarray(points, np.float64) @ matrix[:, :3].T + matrix[:, 3]
        return mapped.astype(np.float32)

    def to_json(self) -> list[float]:
        """The member to write."""
        return list(self.numbers)


#: Of a directory that names none.
IDENTITY = Transform()
