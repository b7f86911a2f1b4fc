"""Dask beside the same without it: threads, and processes where a codec holds the GIL."""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.rows import OURS, Contender, Operation, Place, Row, Target

THREADED = ("image raw gzip", "segmentation cseg", "sharded segmentation cseg")
#: Their packages hold the GIL; we read crackle in helper processes, and compresso by numba where
#: that is installed.
LOCKED = ("segmentation crackle", "segmentation compresso gzip")
TASKS = 16


def _variable(place: Place, name: str, **options: Any) -> Any:
    import xarray as xr

    dataset = xr.open_dataset(place.data / name, engine="precomputed", cache=False, **options)
    return dataset["image" if "image" in name else "segmentation"]


def undasked(name: str) -> Contender:
    """The whole layer, without dask."""

    def prepare(place: Place) -> Operation:
        variable = _variable(place, name)
        return lambda: variable.to_numpy()

    return prepare


def threads(name: str, *, joined: bool) -> Contender:
    """The whole layer, in the chunks that the layer prefers, on dask's threads.

    `joined`: as one array. Dask joins the blocks on one thread, by another copy of everything.
    """

    def prepare(place: Place) -> Operation:
        import dask

        dask.config.set(scheduler="threads")
        variable = _variable(place, name, chunks={})
        return lambda: variable.to_numpy() if joined else variable.persist()

    return prepare


class Answer(NamedTuple):
    """What was computed, and where."""

    value: float
    client: Any


def processes(name: str, count: int) -> Contender:
    """The largest label: little travels back."""

    def prepare(place: Place) -> Operation:
        from distributed import Client, LocalCluster

        cluster = LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=str(place.scratch),
        )
        client = Client(cluster)
        client.run(_use_one_core)
        variable = _variable(place, name).precomputed.chunk(nbytes=place.side**3 * 8 // TASKS)
        assert variable.data.npartitions > count
        return lambda: Answer(float(variable.max().to_numpy()), client)

    return prepare


def _use_one_core() -> None:
    """A worker of one thread has one core; by default a read takes all of the machine."""
    import xprecomputed as xp

    xp.set_options(threads=1)


def _close(answer: Answer, _: Place) -> dict[str, float]:
    answer.client.shutdown()  # with its processes: this one is about to end without notice
    return {"largest": answer.value}


def _threads_row(name: str, *, joined: bool) -> Row:
    return Row(
        name=f"dask threads, {name}, {'joined' if joined else 'in blocks'}",
        group="dask",
        contenders={OURS: threads(name, joined=joined), "undasked": undasked(name)},
        targets=(Target("undasked", 0.85),),
        nbytes=lambda side: side**3 * (1 if "image" in name else 8),
    )


def _processes_row(name: str) -> Row:
    return Row(
        name=f"dask, 2 processes, {name}",
        group="dask",
        contenders={OURS: processes(name, 2), "one process": processes(name, 1)},
        targets=(Target("one process", 1.6),),
        nbytes=lambda side: side**3 * 8,
        summary=_close,
    )


ROWS = [
    *(_threads_row(name, joined=joined) for name in THREADED for joined in (False, True)),
    *map(_processes_row, LOCKED),
]
