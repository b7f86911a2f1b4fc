"""Which fragments of a multi-resolution mesh a request needs, and where they are (pure).

Format reference 5.2. Manifests and fragments are in the units of the stored model; requests,
and all that is handed out, are in nm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import Bytes
from xprecomputed.errors import CorruptDataError, LodNotFoundError
from xprecomputed.mesh.manifest import Manifest
from xprecomputed.mesh.wanted import Nm, Part, Raw, touches
from xprecomputed.metadata import MeshInfo

__all__ = [
    "LodPlan",
    "bytes_before",
    "cell_boxes",
    "choose_lod",
    "coarsest_within",
    "placed",
    "plan_lod",
    "resolution_nm",
]

#: Fragments are small, and arrays of doubles are large: so many are put into place together.
VERTICES_AT_ONCE = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class LodPlan:
    """The fragments that are read of one lod; arrays with one element a fragment.

    Parameters
    ----------
    lod : int
    cells : ndarray of uint32, shape (F, 3)
    starts, stops : ndarray of int64, shape (F,)
        Bytes, counted from the first of the fragment data.
    """

    lod: int
    cells: NDArray[np.uint32]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


def bytes_before(value: Bytes) -> int:
    """How many bytes of fragments lie before a manifest in a shard, for `KeyedValues`.

    Raises
    ------
    CorruptDataError
    """
    return Manifest.parse(value).data_bytes


def choose_lod(manifest: Manifest, lod: int, where: str) -> int:
    """The lod that is meant; negative ones count from the coarsest that is stored.

    Raises
    ------
    LodNotFoundError
        There is none such, or it is not stored.
    """
    stored = manifest.stored_lods
    if lod in stored:
        return lod
    if -len(stored) <= lod < 0:
        return stored[lod]
    raise LodNotFoundError(
        f"{where}: no lod {lod}; this mesh has {list(stored)} (0 is the finest, -1 the coarsest)"
    )


def coarsest_within(manifest: Manifest, info: MeshInfo, max_error_nm: float, where: str) -> int:
    """The coarsest lod whose resolution is at most so many nm; the finest if none is.

    Raises
    ------
    LodNotFoundError
        No lod is stored.
    """
    finest = choose_lod(manifest, manifest.stored_lods[0] if manifest.stored_lods else 0, where)
    fit = [
        lod for lod in manifest.stored_lods if resolution_nm(manifest, info, lod) <= max_error_nm
    ]
    return max(fit, default=finest)


def resolution_nm(manifest: Manifest, info: MeshInfo, lod: int) -> float:
    """Size in nm of the features that a lod keeps; of axes of different scales the worst."""
    stretch = float(np.linalg.norm(info.transform.matrix[:, :3], 2))
    return float(manifest.lod_scales[lod]) * info.lod_scale_multiplier * stretch


def plan_lod(manifest: Manifest, info: MeshInfo, lod: int, box: Nm | None) -> LodPlan:
    """The fragments of a lod that are not empty and whose cells touch a box.

    Parameters
    ----------
    manifest : Manifest
    info : MeshInfo
    lod : int
    box : ndarray, shape (2, 3), or None
        nm; None takes all.
    """
    before = sum(int(sizes.sum(dtype=np.uint64)) for sizes in manifest.sizes[:lod])
    sizes = manifest.sizes[lod].astype(np.int64)
    stops = before + np.cumsum(sizes)
    wanted = sizes > 0
    if box is not None:
        wanted &= touches(cell_boxes(manifest, info, lod), box)
    return LodPlan(lod, manifest.positions[lod][wanted], (stops - sizes)[wanted], stops[wanted])


def cell_boxes(manifest: Manifest, info: MeshInfo, lod: int) -> NDArray[np.float64]:
    """The boxes in nm around the cells of a lod, larger by what float32 rounds, shape (F, 2, 3)."""
    size = _cell_size(manifest, lod)
    low = _origin(manifest, lod) + size * manifest.positions[lod].astype(np.float64)
    matrix = info.transform.matrix
    middle = (low + size / 2) @ matrix[:, :3].T + matrix[:, 3]
    half = np.abs(matrix[:, :3]) @ (size / 2)
    half = half + (np.abs(middle) + half) * np.finfo(np.float32).eps
    return np.stack([middle - half, middle + half], axis=1)


def placed(
    fragments: Sequence[Raw],
    cells: NDArray[np.uint32],
    manifest: Manifest,
    info: MeshInfo,
    lod: int,
) -> list[Part]:
    """Fragments as they were decoded, with their vertices in nm; many of them at a time.

    Parameters
    ----------
    fragments : sequence of (positions, faces)
        Of `xprecomputed.codecs.draco.decode`.
    cells : ndarray of uint32, shape (F, 3)
    manifest : Manifest
    info : MeshInfo
    lod : int

    Returns
    -------
    list of (vertices, faces)
        float32 (N, 3) nm; faces as they were.

    Raises
    ------
    CorruptDataError
        Vertices outside of their cell, or beyond what float32 holds.
    """
    parts: list[Part] = []
    begin = 0
    while begin < len(fragments):
        end, count = begin, 0
        while end < len(fragments) and (end == begin or count < VERTICES_AT_ONCE):
            count += len(fragments[end][0])
            end += 1
        parts += _placed(fragments[begin:end], cells[begin:end], manifest, info, lod)
        begin = end
    return parts


def _placed(
    fragments: Sequence[Raw],
    cells: NDArray[np.uint32],
    manifest: Manifest,
    info: MeshInfo,
    lod: int,
) -> list[Part]:
    counts = [len(positions) for positions, _ in fragments]
    inside = np.concatenate([positions for positions, _ in fragments], dtype=np.float64)
    steps = _steps(info)
    if inside.size and not (inside.min() >= 0 and inside.max() <= steps):
        wrong = np.asarray(~((inside >= 0) & (inside <= steps)).all(axis=1))
        raise CorruptDataError(
            f"{_first(wrong, counts, cells)} has positions from {inside[wrong].min():g} to "
            f"{inside[wrong].max():g}, expected 0 to {steps}, as "
            f"vertex_quantization_bits={info.vertex_quantization_bits} says"
        )
    inside /= steps
    inside += np.repeat(cells.astype(np.float64), counts, axis=0)
    inside *= _cell_size(manifest, lod)
    inside += _origin(manifest, lod)
    with np.errstate(over="ignore", invalid="ignore"):
        vertices = info.transform.apply(inside)
    lost = np.asarray(~np.isfinite(vertices).all(axis=1))
    if lost.any():
        raise CorruptDataError(
            f"{_first(lost, counts, cells)} has vertices that float32 cannot hold"
        )
    split = np.split(vertices, np.cumsum(counts)[:-1])
    return [(part, faces) for part, (_, faces) in zip(split, fragments, strict=True)]


def _first(wrong: NDArray[np.bool_], counts: list[int], cells: NDArray[np.uint32]) -> str:
    """The fragment of the first vertex that is wrong, for messages."""
    at = int(np.repeat(np.arange(len(counts)), counts)[np.argmax(wrong)])
    return f"the fragment of cell {cells[at].tolist()}"


def _steps(info: MeshInfo) -> int:
    """The largest quantised coordinate."""
    return (1 << (info.vertex_quantization_bits or 16)) - 1


def _cell_size(manifest: Manifest, lod: int) -> NDArray[np.float64]:
    # beyond what a float holds there is nothing to read: what is infinite is refused later
    return np.asarray(manifest.chunk_shape, np.float64) * 2.0 ** min(lod, 900)


def _origin(manifest: Manifest, lod: int) -> NDArray[np.float64]:
    origin = np.asarray(manifest.grid_origin, np.float64)
    return np.asarray(origin + manifest.vertex_offsets[lod])
