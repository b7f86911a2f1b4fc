"""Reads by id that are done later or elsewhere: on dask, and beside an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from xprecomputed.parallel import Undertaking

__all__ = ["get_bag", "in_thread"]

P = ParamSpec("P")
T = TypeVar("T")

Ids = NDArray[np.uint64]

#: Ids of a partition, where nobody says how many partitions there are.
USUAL_IDS = 100


@dataclass(frozen=True, slots=True)
class _Partition:
    """What one task does; all that travels to a worker."""

    read: Callable[[Ids], Iterable[Any]]
    ids: Ids

    def __call__(self) -> list[Any]:
        return list(self.read(self.ids))


def get_bag(
    read: Callable[[Ids], Iterable[Any]],
    ids: Ids,
    order: Callable[[Ids], Ids],
    npartitions: int | None = None,
) -> Any:
    """A lazy bag of what a function reads of ids, some of them at a time.

    Parameters
    ----------
    read : callable
        Gets the ids of a partition, an ndarray of uint64, and gives its items. Small, frozen and
        picklable, such as `functools.partial` of a frozen source; dask names the bag by it
        (``__dask_tokenize__`` of the source), so that the same bag has the same name.
    ids : ndarray of uint64, shape (N,)
    order : callable
        Puts ids that lie together beside one another, such as `KeyedValues.order`.
    npartitions : int, optional
        By default one for each 100 ids.

    Returns
    -------
    dask.bag.Bag
        In the order that `order` makes.

    Raises
    ------
    ValueError
        `npartitions` is not at least 1.

    Examples
    --------
    >>> get_bag(np.ndarray.tolist, np.array([3, 1, 2], np.uint64), np.sort, 2).compute()
    [1, 2, 3]
    """
    from dask.bag import Bag
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    if npartitions is None:
        npartitions = max(1, -(-len(ids) // USUAL_IDS))
    is_integer = isinstance(npartitions, int | np.integer) and not isinstance(npartitions, bool)
    if not is_integer or npartitions < 1:
        raise ValueError(f"npartitions={npartitions!r}: expected an integer >= 1")
    parts = np.array_split(order(ids), max(1, min(npartitions, len(ids))))
    name = f"xprecomputed-get-{tokenize(read, parts)}"
    layer: dict[Any, Any] = {(name, at): (_Partition(read, part),) for at, part in enumerate(parts)}
    return Bag(HighLevelGraph.from_collections(name, layer, []), name, len(parts))


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that waits for a store without keeping the event loop from its work.

    Where the task is cancelled, what the function has begun is given up: no further request is
    made, and none is tried again.

    Parameters
    ----------
    function : callable
    *args, **kwargs
        What it is given.

    Returns
    -------
    What it returns.

    Raises
    ------
    What it raises.

    Examples
    --------
    >>> asyncio.run(in_thread(max, 1, 2))
    2
    """
    undertaking = Undertaking()

    def work() -> T:
        with undertaking.joined():
            return function(*args, **kwargs)

    try:
        return await asyncio.to_thread(work)
    except asyncio.CancelledError:
        undertaking.give_up()
        raise
