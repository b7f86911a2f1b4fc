"""1,000 meshes and 1,000 skeletons out of shards: this package and CloudVolume, in one run.

Run it as ``python benchmarks/segments.py``; it needs the extras ``mesh``, ``skeleton`` and
``peers``, no network and about two minutes.

The same sharded folders (8 shards, multi-resolution Draco meshes with two levels of detail,
skeletons with a radius, gzip) are read from a local disk and from a web server in a process of its
own that answers each request after some latency. Both readers take turns in this process, after one
reading each that is not timed and whose results are compared; the median counts. Requests are
what the server has answered.

Options: ``--count 1000``, ``--latency-ms 20``, ``--rounds 3``.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import xprecomputed as xp
from benchmarks.serving import folder, serving

#: 8 shards of 8 minishards.
SHARDING = xp.ShardingSpec(
    preshift_bits=0,
    hash="murmurhash3_x86_128",
    minishard_bits=3,
    shard_bits=3,
    minishard_index_encoding="gzip",
)
Read = Callable[[str, list[int]], Any]


def ball(random: np.random.Generator, segment: int) -> xp.Mesh:
    """A bumpy ball of some hundred to some thousand vertices."""
    rows = int(random.integers(12, 60))
    across, around = np.meshgrid(
        np.linspace(0.05, math.pi - 0.05, rows), np.linspace(0, 2 * math.pi, rows, endpoint=False)
    )
    radius = 500 + 30 * np.sin(5 * across) * np.cos(4 * around)
    directions = (
        np.sin(across) * np.cos(around), np.sin(across) * np.sin(around), np.cos(across)
    )  # fmt: skip
    vertices = np.stack([radius * each for each in directions], -1).reshape(-1, 3)
    vertices += random.uniform(1000, 50_000, 3)
    i, j = np.meshgrid(np.arange(rows), np.arange(rows - 1), indexing="ij")
    here, there = i * rows + j, (i + 1) % rows * rows + j
    faces = np.concatenate(
        [np.stack([here, there, here + 1], -1), np.stack([there, there + 1, here + 1], -1)]
    )
    return xp.Mesh(vertices.astype(np.float32), faces.reshape(-1, 3).astype(np.uint32), segment)


def path(random: np.random.Generator, segment: int) -> Any:
    """A random walk of some hundred to some thousand vertices."""
    import osteoid

    count = int(random.integers(100, 2000))
    vertices = np.cumsum(random.normal(0, 50, (count, 3)), 0) + 20_000
    edges = np.stack([np.arange(count - 1), np.arange(1, count)], 1)
    return osteoid.Skeleton(
        vertices.astype(np.float32),
        edges.astype(np.uint32),
        radii=random.uniform(20, 90, count).astype(np.float32),
        segid=segment,
    )


def write(url: str, count: int) -> list[int]:
    """A volume without voxels, with its meshes and skeletons; the ids, in no order."""
    random = np.random.default_rng(0)
    ids = (random.permutation(count).astype(np.uint64) * np.uint64(7919) + np.uint64(1)).tolist()
    info = xp.create_info(
        size=(8192, 8192, 1024),
        resolution=(8, 8, 40),
        data_type="uint64",
        layer_type="segmentation",
    )
    store = xp.write_info(url, info)
    xp.create_mesh(store, sharding=SHARDING).put((ball(random, each) for each in ids), num_lods=2)
    store = xp.open_store(url)
    xp.create_skeleton(store, sharding=SHARDING).put(path(random, each) for each in ids)
    return ids


def our_meshes(url: str, ids: list[int]) -> Any:
    """Read meshes with this package."""
    return xp.open_store(url).mesh.get(ids)


def their_meshes(url: str, ids: list[int]) -> Any:
    """Read meshes with CloudVolume."""
    return _cloudvolume(url).mesh.get(ids, lod=0)


def our_skeletons(url: str, ids: list[int]) -> Any:
    """Read skeletons with this package."""
    return xp.open_store(url).skeleton.get(ids)


def their_skeletons(url: str, ids: list[int]) -> Any:
    """Read skeletons with CloudVolume."""
    return {each.id: each for each in _cloudvolume(url).skeleton.get(ids)}


def _cloudvolume(url: str) -> Any:
    import cloudvolume

    address = url if "://" in url else f"file://{url}"
    return cloudvolume.CloudVolume(f"precomputed://{address}", progress=False)


READERS: dict[str, dict[str, Read]] = {
    "meshes": {"xprecomputed": our_meshes, "CloudVolume": their_meshes},
    "skeletons": {"xprecomputed": our_skeletons, "CloudVolume": their_skeletons},
}


def check_equal(ours: Any, theirs: Any, ids: list[int]) -> None:
    """Both read the same: vertices, and what joins them."""
    for segment in ids:
        mine, other = ours[segment], theirs[segment]
        np.testing.assert_allclose(mine.vertices, other.vertices, rtol=1e-6, atol=0.05)
        joins = "faces" if hasattr(mine, "faces") else "edges"
        np.testing.assert_array_equal(getattr(mine, joins), getattr(other, joins))


def rows(
    url: str, ids: list[int], rounds: int, count: Callable[[], int]
) -> Iterator[tuple[str, str, float, float, int]]:
    """For each kind and reader: median and spread in seconds, and requests."""
    for kind, readers in READERS.items():
        results, requests = {}, {}
        for name, read in readers.items():
            count()
            results[name] = read(url, ids)
            requests[name] = count()
        check_equal(*results.values(), ids)
        del results
        times: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(rounds):
            for name, read in readers.items():
                began = time.perf_counter()
                read(url, ids)
                times[name].append(time.perf_counter() - began)
        for name, taken in times.items():
            yield kind, name, statistics.median(taken), max(taken) - min(taken), requests[name]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--latency-ms", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        ids = write(f"{made}/layer", arguments.count)
        print(
            f"{'from':<12}{'what':<11}{'reader':<14}{'median s':>9}{'spread s':>9}{'requests':>9}"
        )

        def table(place: str, url: str, count: Callable[[], int]) -> None:
            for kind, name, median, spread, requests in rows(url, ids, arguments.rounds, count):
                shown = "" if requests < 0 else requests
                print(f"{place:<12}{kind:<11}{name:<14}{median:>9.3f}{spread:>9.3f}{shown:>9}")

        table("disk", f"{made}/layer", lambda: -1)
        with serving(folder(Path(made)), arguments.latency_ms / 1000) as server:
            place = f"web, {arguments.latency_ms:g} ms"
            table(place, f"{server.url}/layer", server.count)


if __name__ == "__main__":
    main()
