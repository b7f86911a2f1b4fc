"""Small pieces at random places, from a local disk in the page cache."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import bare, peers
from benchmarks.layers import ENCODINGS
from benchmarks.reads import CODEC_BOUND
from benchmarks.rows import LIMIT, OURS, Contender, Operation, Place, Row, Target

POINTS = 10_000


class Pieces(list[Any]):
    """Arrays that are kept until the clock has stopped."""

    @property
    def nbytes(self) -> int:
        """Of all of them."""
        return sum(each.nbytes for each in self)


@dataclass(frozen=True)
class Cutouts:
    """How many boxes of which shape; the same ones for every contender.

    `step` is what the corners are multiples of. Shapes are cut to the side of the layer.
    """

    count: int
    shape: tuple[int, int, int]
    step: int = 1

    def size(self, side: int) -> tuple[int, ...]:
        """Of each box, x, y, z."""
        return tuple(min(each, side) for each in self.shape)

    def boxes(self, side: int) -> list[tuple[slice, ...]]:
        """Slices in x, y, z."""
        random = np.random.default_rng(1)
        size = self.size(side)
        most = [(side - each) // self.step for each in size]
        corners = random.integers(0, most, (self.count, 3), endpoint=True) * self.step
        return [
            tuple(slice(at, at + each) for at, each in zip(corner, size, strict=True))
            for corner in corners.tolist()
        ]


WHOLE = 1 << 30
SHAPES = {
    "64": Cutouts(100, (64, 64, 64)),
    "256": Cutouts(10, (256, 256, 256)),
    "one slice": Cutouts(20, (WHOLE, WHOLE, 1)),
}
UNSHARDED = ("segmentation cseg", "image raw", "image jpeg")
SHARDED = {  # CloudVolume takes a quarter of a second for one
    "64 aligned": Cutouts(20, (64, 64, 64), step=64),
    "64": Cutouts(20, (64, 64, 64)),
}


def _variable(place: Place, name: str) -> Any:
    import xarray as xr

    dataset = xr.open_dataset(place.data / name, engine="precomputed", cache=False)
    return dataset["image" if "image" in name else "segmentation"]


def ours(name: str, cutouts: Cutouts) -> Contender:
    """`isel` with slices, one after another."""

    def prepare(place: Place) -> Operation:
        variable, boxes = _variable(place, name), cutouts.boxes(place.side)
        return lambda: Pieces(variable.isel(x=x, y=y, z=z).to_numpy() for x, y, z in boxes)

    return prepare


def cloudvolume(name: str, cutouts: Cutouts) -> Contender:
    """Slicing, one after another."""

    def prepare(place: Place) -> Operation:
        volume = peers.cloudvolume(f"file://{place.data / name}")
        boxes = cutouts.boxes(place.side)
        return lambda: Pieces(np.asarray(volume[box]).T for box in boxes)

    return prepare


def tensorstore(name: str, cutouts: Cutouts) -> Contender:
    """Slicing and `read`, one after another."""

    def prepare(place: Place) -> Operation:
        store = peers.tensorstore(peers.file_kvstore(place.data / name))
        boxes = cutouts.boxes(place.side)
        return lambda: Pieces(store[box].read(order="F").result().T for box in boxes)

    return prepare


def limit(name: str, cutouts: Cutouts) -> Contender:
    """Decode all chunks that a box touches with the bare package, on all cores."""
    _, chunk_size, _, _ = ENCODINGS[name]

    def prepare(place: Place) -> Operation:
        decode = bare.decoder(name)
        files = bare.chunk_files(place.data / name / "8_8_8", place.side, chunk_size)
        boxes = cutouts.boxes(place.side)

        def one(box: tuple[slice, ...]) -> Any:
            out = np.empty([each.stop - each.start for each in box[::-1]], np.uint8)

            def paste(task: Any) -> None:
                file, chunk = task
                both = [
                    (max(a.start, b.start), min(a.stop, b.stop))
                    for a, b in zip(chunk, box[::-1], strict=True)
                ]
                inside = tuple(
                    slice(low - a.start, high - a.start)
                    for (low, high), a in zip(both, chunk, strict=True)
                )
                target = tuple(
                    slice(low - b.start, high - b.start)
                    for (low, high), b in zip(both, box[::-1], strict=True)
                )
                shape = tuple(each.stop - each.start for each in chunk)
                out[target] = decode(file.read_bytes(), shape, np.uint8)[inside]

            bare.on_all_cores(paste, [each for each in files if _touch(each[1], box[::-1])])
            return out

        return lambda: Pieces(one(box) for box in boxes)

    return prepare


def _touch(one: Any, other: Any) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))


def _all_of_them(pieces: Any, _: Place) -> dict[str, float]:
    found = 0
    for each in pieces:
        data = np.ascontiguousarray(each)
        found = zlib.crc32(data.view(np.uint8).reshape(-1), found)
    return {"crc32": float(found)}


def _row(name: str, label: str, cutouts: Cutouts) -> Row:
    def nbytes(side: int) -> int:
        return cutouts.count * int(np.prod(cutouts.size(side))) * (1 if "image" in name else 8)

    contenders = {
        OURS: ours(name, cutouts),
        "CloudVolume": cloudvolume(name, cutouts),
        "TensorStore": tensorstore(name, cutouts),
    }
    bound = ENCODINGS[name][0] in CODEC_BOUND
    if bound:
        contenders[LIMIT] = limit(name, cutouts)
    return Row(
        name=f"cutouts {label} of {name}",
        group="cutouts",
        contenders=contenders,
        targets=(
            (Target(LIMIT, 0.95), Target("best peer", 1.0))
            if bound
            else (Target("best peer", 1.3),)
        ),
        nbytes=nbytes,
        summary=_all_of_them,
    )


def _points(side: int) -> Any:
    """Voxels, (POINTS, 3) in x, y, z."""
    return np.random.default_rng(2).integers(0, side, (POINTS, 3))


def our_points(name: str) -> Contender:
    """`isel` with DataArrays that share a dimension."""

    def prepare(place: Place) -> Operation:
        import xarray as xr

        variable = _variable(place, name)
        x, y, z = (xr.DataArray(each, dims="point") for each in _points(place.side).T)
        return lambda: variable.isel(x=x, y=y, z=z).to_numpy()

    return prepare


def cloudvolume_points(name: str) -> Contender:
    """`scattered_points`, which reads a chunk for each point, and gives a dict."""

    def prepare(place: Place) -> Operation:
        volume = peers.cloudvolume(f"file://{place.data / name}")
        points = [tuple(each) for each in _points(place.side).tolist()]

        def read() -> Any:
            found = volume.scattered_points(points)
            return np.array([found[each] for each in points], volume.dtype)

        return read

    return prepare


def tensorstore_points(name: str) -> Contender:
    """Indexing with arrays, which are taken together."""

    def prepare(place: Place) -> Operation:
        store = peers.tensorstore(peers.file_kvstore(place.data / name))
        x, y, z = _points(place.side).T
        return lambda: store[x, y, z, 0].read().result()

    return prepare


def _points_row(name: str) -> Row:
    return Row(
        name=f"{POINTS} points of {name}",
        group="cutouts",
        contenders={
            OURS: our_points(name),
            "CloudVolume": cloudvolume_points(name),
            "TensorStore": tensorstore_points(name),
        },
        targets=(Target("best peer", 1.3),),
    )


ROWS = [
    *(_row(name, *each) for name in UNSHARDED for each in SHAPES.items()),
    *(_points_row(name) for name in ("segmentation cseg", "image raw")),
    *(_row("sharded segmentation cseg", *each) for each in SHARDED.items()),
]
