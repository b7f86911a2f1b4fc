"""Mutated bytes and documents: a skeleton, or an error of ours, and no more memory than that."""

import gzip
import json
import tracemalloc

import numpy as np
import pytest

from tests.skeleton.paths import RADIUS, TURNED, TYPES, info_of, random_tree
from xprecomputed import errors
from xprecomputed.metadata import SkeletonInfo, VertexAttribute
from xprecomputed.skeleton import (
    decode,
    encode,
    open_skeletons,
    parse_swc,
    skeletons,
    swc_text,
)
from xprecomputed.storage import locate_url

FLOW = VertexAttribute(id="flow", data_type="int16", num_components=3)
ROUNDS = 1500


def mutated(rng, data):
    """Some bytes changed, some taken out, some put in."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, len(out))) if len(out) else 0
        if rng.random() < 0.3:  # the counts
            at = min(at, int(rng.integers(0, 8)))
        kind = rng.integers(0, 4)
        if kind == 0:
            out[at : at + 1] = bytes([rng.integers(0, 256)])
        elif kind == 1:
            out[at : at + 4] = rng.choice([0, 1, 2**31, 2**32 - 1]).astype("<u4").tobytes()
        elif kind == 2:
            del out[at : at + int(rng.integers(1, 30))]
        else:
            out[at:at] = bytes(int(rng.integers(1, 30)))
    return bytes(out)


def test_mutated_skeletons(rng):
    info = info_of(RADIUS, TYPES, FLOW, transform=TURNED)
    tree = random_tree(rng, flow=np.zeros((20, 3), np.int16))
    good = encode(tree, info)
    outcomes = {True: 0, False: 0}
    tracemalloc.start()
    for _ in range(ROUNDS):
        try:
            found = decode(mutated(rng, good), info)
        except errors.CorruptDataError:
            outcomes[False] += 1
            continue
        outcomes[True] += 1
        assert found.edges.size == 0 or found.edges.max() < len(found.vertices)
        assert len(found.components()) <= 20
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6
    assert min(outcomes.values()) > ROUNDS // 20, outcomes


def test_mutated_swc(rng):
    good = swc_text(random_tree(rng)).encode()
    read = 0
    for _ in range(ROUNDS):
        text = mutated(rng, good).decode(errors="replace")
        try:
            found = parse_swc(text)
        except errors.CorruptDataError:
            continue
        read += 1
        assert found.edges.size == 0 or found.edges.max() < len(found.vertices)
    assert read > ROUNDS // 20


def test_mutated_info(tmp_path, rng):
    good = json.dumps(info_of(RADIUS, FLOW, transform=TURNED).to_json()).encode()
    place = locate_url(str(tmp_path))
    read = 0
    for _ in range(ROUNDS // 5):
        (tmp_path / "info").write_bytes(mutated(rng, good))
        try:
            assert isinstance(open_skeletons(place).info, SkeletonInfo)
        except (errors.InvalidInfoError, errors.CorruptDataError):
            continue
        read += 1
    assert read


@pytest.mark.parametrize("claim", [2**20, 2**31, 2**32 - 1])
@pytest.mark.parametrize("which", [0, 1])
def test_claims_allocate_nothing(claim, which):
    counts = np.zeros(2, "<u4")
    counts[which] = claim
    decode(bytes(8), info_of(RADIUS))  # what is imported at first use
    tracemalloc.start()
    with pytest.raises(errors.CorruptDataError, match="expected"):
        decode(counts.tobytes() + bytes(1000), info_of(RADIUS))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6


def test_a_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(skeletons, "MAX_BYTES", 1 << 20)  # a GiB takes five seconds
    (tmp_path / "7.gz").write_bytes(gzip.compress(bytes((1 << 20) + 1), 1))
    with pytest.raises(errors.CorruptDataError, match="7.*more than the 1048576 bytes"):
        open_skeletons(locate_url(str(tmp_path))).get(7)
