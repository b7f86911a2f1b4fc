"""Whole layers, read from a local disk in the page cache."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import bare, peers
from benchmarks.layers import ENCODINGS, NAMES
from benchmarks.rows import LIMIT, OURS, Contender, Operation, Place, Row, Target

#: Rows whose codec is the limit, on all cores.
CODEC_BOUND = ("jpeg", "png", "compresso")


def ours(name: str) -> Contender:
    """Open with xarray, without dask."""

    def prepare(place: Place) -> Operation:
        import xarray as xr

        dataset = xr.open_dataset(place.data / name, engine="precomputed", cache=False)
        variable = dataset["image" if "image" in name else "segmentation"]
        return lambda: variable.to_numpy()

    return prepare


def cloudvolume(name: str) -> Contender:
    """The whole volume by slicing."""

    def prepare(place: Place) -> Operation:
        volume = peers.cloudvolume(f"file://{place.data / name}")
        return lambda: np.asarray(volume[:, :, :]).T

    return prepare


def tensorstore(name: str) -> Contender:
    """The whole volume by `read`, in the order in which it is stored, which is the faster one."""

    def prepare(place: Place) -> Operation:
        store = peers.tensorstore(peers.file_kvstore(place.data / name))
        return lambda: store.read(order="F").result().T

    return prepare


def limit(name: str) -> Contender:
    """Read a file, decode it with the bare package, copy it into the result: on all cores."""
    _, chunk_size, _, sharded = ENCODINGS[name]
    dtype: Any = np.dtype(np.uint8 if "image" in name else np.uint64)

    def prepare(place: Place) -> Operation:
        decode = bare.decoder(name)
        folder = place.data / name / "8_8_8"
        tasks: list[Any] = (
            list(bare.shard_values(folder, place.side, chunk_size))
            if sharded
            else [
                (file, 0, -1, part)
                for file, part in bare.chunk_files(folder, place.side, chunk_size)
            ]
        )

        def read() -> Any:
            out = np.empty((place.side,) * 3, dtype)

            def one(task: Any) -> None:
                file, at, size, part = task
                with open(file, "rb", buffering=0) as opened:
                    opened.seek(at)
                    data = opened.read(size)
                view = out[part]
                view[...] = decode(data, view.shape, dtype)

            bare.on_all_cores(one, tasks)
            return out

        return read

    return prepare


def _row(name: str) -> Row:
    encoding, _, compression, _ = ENCODINGS[name]
    contenders = {OURS: ours(name), LIMIT: limit(name), "CloudVolume": cloudvolume(name)}
    if compression is None and encoding not in ("crackle", "compresso"):  # it reads no others
        contenders["TensorStore"] = tensorstore(name)
    bound = encoding in CODEC_BOUND
    return Row(
        name=f"read {name}",
        group="read",
        contenders=contenders,
        targets=(
            (Target(LIMIT, 0.95), Target("best peer", 1.0))
            if bound
            else (Target("best peer", 1.3),)
        ),
        nbytes=lambda side: side**3 * (1 if "image" in name else 8),
    )


ROWS = [_row(name) for name in NAMES]
