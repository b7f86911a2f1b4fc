"""The files of a spatial index: listed, read, made and changed one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import compress
from xprecomputed.errors import AccessDeniedError, CorruptDataError, StorageError
from xprecomputed.keyed.boxes import Boxes
from xprecomputed.keyed.cells import SUFFIX, cell_box
from xprecomputed.keyed.values import read_object
from xprecomputed.parallel import run_bounded
from xprecomputed.storage import Location, Unchanged, workers_for

__all__ = ["CellFiles"]

#: A file has some 60 bytes a label.
MAX_FILE_BYTES = 128 << 20
#: What a file may take while it is read, for the budget.
USUAL_BYTES = 4 << 20
CONTROL = "no-cache"


@dataclass(frozen=True, slots=True)
class CellFiles:
    """The ``.spatial`` files in a folder.

    Parameters
    ----------
    directory : Location
    """

    directory: Location

    def place(self, name: str) -> Location:
        """Where a file is."""
        return self.directory.child(name)

    def listed(self) -> dict[str, NDArray[np.float64]]:
        """All files, and the boxes of shape (2, 3) in nm that their names tell.

        Raises
        ------
        CorruptDataError
            A name that tells none.
        AccessDeniedError, StorageError
            Also where nothing can be listed.
        """
        storage = self.directory.storage
        try:
            names = [each.name for each in storage.list_dir(self.directory.key)]
        except (AccessDeniedError, StorageError) as error:
            raise type(error)(
                f"{error}. The files of the spatial index are found without a listing where the "
                "bounds of the volume are known: open it through the volume"
            ) from None
        found = {}
        for name in sorted(each for each in names if each.endswith(SUFFIX)):
            box = cell_box(name)
            if box is None:
                raise CorruptDataError(
                    f"{self.place(name).url}: not the name of a file of a spatial index, which "
                    f"is x0-x1_y0-y1_z0-z1{SUFFIX}, numbers in nm; remove it"
                )
            found[name] = box
        return found

    def read(self, name: str) -> Boxes | None:
        """What a file says, None where there is none.

        Raises
        ------
        InvalidInfoError, CorruptDataError, AccessDeniedError, StorageError
        """
        place = self.place(name)
        data = read_object(place, MAX_FILE_BYTES)
        return None if data is None else Boxes.parse(data, place.url)

    def each(self, names: Iterable[str], work: Callable[[str], None]) -> None:
        """Do something about many files, several at a time."""
        workers = workers_for(self.directory)
        run_bounded(names, work, workers=workers, cost=lambda _: USUAL_BYTES)

    def make(self, name: str) -> None:
        """Store a file that says nothing, where there is none."""
        self.change(name, lambda before: Boxes.of({}) if before is None else None)

    def change(self, name: str, work: Callable[[Boxes | None], Boxes | None]) -> None:
        """Replace what one file says as if nobody else did so meanwhile.

        Parameters
        ----------
        name : str
        work : callable
            Gets what the file says, None where there is none, and returns what it shall say, None
            where it shall stay. May be called again, where somebody else was faster.

        Raises
        ------
        InvalidInfoError, CorruptDataError, AccessDeniedError, StorageError
        """
        place = self.place(name)
        gzip = place.storage.has_headers

        def rewrite(only_if: Unchanged | None) -> None:
            after = work(self.read(name))
            if after is None:
                return
            data = after.to_bytes()
            place.storage.put(
                place.key,
                compress(data, "gzip") if gzip else data,
                encoding="gzip" if gzip else None,
                cache_control=CONTROL if gzip else None,
                only_if=only_if,
            )

        place.storage.update(place.key, rewrite)

    def add(
        self, new: Mapping[str, Boxes], ids: NDArray[np.uint64], there: Iterable[str]
    ) -> dict[str, Boxes]:
        """Say what is new beside what is said; what each file says of the ids then."""
        said: dict[str, Boxes] = {}

        def note(name: str, boxes: Boxes) -> Boxes:
            said[name] = boxes.of_ids(ids)
            return boxes

        def add_one(name: str) -> None:
            if name in new:
                self.change(
                    name, lambda now: note(name, Boxes.joined([new[name], *([now] if now else [])]))
                )
                return
            boxes = self.read(name)
            if boxes is not None and np.isin(boxes.ids, ids).any():
                note(name, Boxes.joined([boxes]))

        self.each(there, add_one)
        return said

    def trim(
        self, new: Mapping[str, Boxes], ids: NDArray[np.uint64], said: Mapping[str, Boxes]
    ) -> None:
        """Leave of what was said of the ids only what is new, where nobody has changed it since."""
        nothing = Boxes.of({})

        def trim_one(name: str) -> None:
            wanted = new.get(name, nothing)

            def work(now: Boxes | None) -> Boxes | None:
                if now is None:
                    return None
                stated = Boxes.joined([now.of_ids(ids)])
                keeps = [] if stated.is_same(said[name]) else [stated]
                return Boxes.joined([wanted, *keeps, now.without(ids)])

            self.change(name, work)

        self.each([n for n in said if not said[n].is_same(new.get(n, nothing))], trim_one)
