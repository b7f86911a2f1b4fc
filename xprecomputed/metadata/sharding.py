"""The ``sharding`` object of a scale, a mesh or a skeleton directory.

Fact: format reference 4.1 (``neuroglancer_uint64_sharded_v1``).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from xprecomputed.errors import InvalidInfoError, PrecomputedWarning
from xprecomputed.metadata._checks import Checker, integer_in, one_of

__all__ = ["ShardingSpec"]

TYPE = "neuroglancer_uint64_sharded_v1"
HASHES = ("identity", "murmurhash3_x86_128")
ENCODINGS = ("raw", "gzip")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardingSpec:
    """How uint64 keys are packed into shard files.

    Parameters
    ----------
    preshift_bits : int
        Low key bits that are not hashed; 0 to 64.
    hash : {"identity", "murmurhash3_x86_128"}
    minishard_bits : int
        ``2**minishard_bits`` minishards per shard; 0 to 32.
    shard_bits : int
        ``2**shard_bits`` shard files; with `minishard_bits` at most 64.
    minishard_index_encoding, data_encoding : {"raw", "gzip"}
        Compression of each minishard index and of each value.

    Examples
    --------
    >>> spec = ShardingSpec(preshift_bits=1, hash="identity", minishard_bits=2, shard_bits=3)
    >>> spec.shard_index_bytes
    64
    """

    preshift_bits: int
    hash: Literal["identity", "murmurhash3_x86_128"]
    minishard_bits: int
    shard_bits: int
    minishard_index_encoding: Literal["raw", "gzip"] = "raw"
    data_encoding: Literal["raw", "gzip"] = "raw"
    extra: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        problems: list[str] = []
        document = {name: value for name, value in self.to_json().items() if name not in self.extra}
        _read(Checker(document, "sharding", problems))
        if problems:
            raise InvalidInfoError("ShardingSpec is not usable:", problems)

    @property
    def shard_index_bytes(self) -> int:
        """Length of the shard index at the start of each shard file."""
        return 16 << self.minishard_bits

    @classmethod
    def read(cls, data: object, at: str, problems: list[str]) -> ShardingSpec | None:
        """Parse `data`, adding what is wrong to `problems` under the place `at`."""
        before = len(problems)
        check = Checker(data, at, problems)
        members = _read(check)
        extra = check.rest()
        if len(problems) > before:
            return None
        if extra:
            warnings.warn(
                f"{at}: unknown members {sorted(extra)} are kept; "
                "TensorStore and CloudVolume refuse them",
                PrecomputedWarning,
                stacklevel=2,
            )
        return cls(**members, extra=extra)

    @classmethod
    def from_json(cls, data: object) -> ShardingSpec:
        """Parse a ``sharding`` object.

        Raises
        ------
        InvalidInfoError
            With every problem found.
        """
        problems: list[str] = []
        spec = cls.read(data, "sharding", problems)
        if spec is None:
            raise InvalidInfoError("sharding is not usable:", problems)
        return spec

    def to_json(self) -> dict[str, Any]:
        """The object to write: all seven members explicit, then unknown ones."""
        return {
            "@type": TYPE,
            "preshift_bits": self.preshift_bits,
            "hash": self.hash,
            "minishard_bits": self.minishard_bits,
            "shard_bits": self.shard_bits,
            "minishard_index_encoding": self.minishard_index_encoding,
            "data_encoding": self.data_encoding,
            **self.extra,
        }


def _read(check: Checker) -> dict[str, Any]:
    check.get("@type", one_of([TYPE]), f'"{TYPE}"', required=True)
    members: dict[str, Any] = {
        "preshift_bits": check.get(
            "preshift_bits", integer_in(0, 64), "an integer 0 to 64", required=True
        ),
        "hash": check.get("hash", one_of(HASHES), f"one of {HASHES}", required=True),
        # 64 by the text, 32 in TensorStore; 2^32 minishards are a shard index of 64 GiB
        "minishard_bits": check.get(
            "minishard_bits", integer_in(0, 32), "an integer 0 to 32", required=True
        ),
        "shard_bits": check.get(
            "shard_bits", integer_in(0, 64), "an integer 0 to 64", required=True
        ),
    }
    for name in ("minishard_index_encoding", "data_encoding"):
        members[name] = check.get(name, one_of(ENCODINGS), f"one of {ENCODINGS}", "raw")
    bits = [members["minishard_bits"], members["shard_bits"]]
    if None not in bits and sum(cast("list[int]", bits)) > 64:
        check.problem(None, f"minishard_bits + shard_bits is {sum(bits)}, expected at most 64")
    return members
