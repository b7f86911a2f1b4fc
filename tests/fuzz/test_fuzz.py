"""A few cases of everything that is fuzzed; ``python -m tests.fuzz`` runs many."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.fuzz import watch
from tests.fuzz.__main__ import main
from tests.fuzz.cases import TARGETS, judge
from tests.fuzz.meshes import MESH_TARGETS
from tests.fuzz.mutations import MUTATIONS, mutate
from tests.fuzz.samples import ENCODINGS, UNCHECKED
from xprecomputed import CorruptDataError, encodings

#: Encodings that may come back with other values, and targets whose damage is itself valid.
MAY_DIFFER = {*UNCHECKED, *MESH_TARGETS, "info", "shard index", "shards, raw"}
BEGIN = int(os.environ.get("XPRECOMPUTED_FUZZ_START", "50000"))


@pytest.mark.parametrize("name", TARGETS)
def test_damage_is_data_or_an_error_of_ours(name):
    tally = watch.fuzz(name, 60 if name in ("fpzip", "kempressed") else 100, start=BEGIN)
    assert not tally.notes
    assert tally.counts["error"] > 20 or name == "shards, raw values"  # any bytes are voxels
    assert name in MAY_DIFFER or not tally.counts["other"]


def test_every_encoding_is_fuzzed():
    assert set(ENCODINGS) >= {name for name in encodings() if not name.startswith("test")}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutations_change_bytes_and_repeat(mutation):
    data, other = bytes(range(200)), bytes(reversed(range(200)))
    once = [mutation(data, other, np.random.default_rng(n)) for n in range(20)]
    again = [mutation(data, other, np.random.default_rng(n)) for n in range(20)]
    assert once == again
    assert sum(each != data for each in once) > 15
    for n in range(20):  # nothing is too short
        assert isinstance(mutation(b"x", b"y", np.random.default_rng(n)), bytes)
        assert mutate(b"", b"y", np.random.default_rng(n)) == b""


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        (lambda: True, "equal"),
        (lambda: False, "other"),
        (lambda: fail(CorruptDataError("x")), "error"),
        (lambda: fail(OverflowError("x")), "foreign"),
        (lambda: np.float32(1) / np.float32(0), "foreign"),
    ],
)
def test_judgements(action, outcome):
    assert judge(action)[0] == outcome


def test_crashes_and_hangs_are_counted_and_the_rest_goes_on(monkeypatch):
    """The watched process dies in its second case, and hangs in its fourth."""
    script = """
import json, os, sys, time
for number in range(int(sys.argv[-2]), int(sys.argv[-1])):
    os.abort() if number == 1 else time.sleep(60 if number == 3 else 0)
    print(json.dumps([number, "error", ""]), flush=True)
"""
    real = subprocess.Popen
    monkeypatch.setattr(
        subprocess,
        "Popen",
        lambda command, **kwargs: real([sys.executable, "-c", script, *command[-2:]], **kwargs),
    )
    monkeypatch.setattr(watch, "SECONDS", 2)
    began = time.monotonic()
    tally = watch.fuzz("anything", 6)
    assert dict(tally.counts) == {"error": 4, "crash": 1, "hang": 1}
    assert tally.cases == 6
    assert [number for number, _ in tally.notes.values()] == [1, 3]
    assert time.monotonic() - began < 40


def test_the_command_prints_a_table(capsys):
    assert main(["--encoding", "raw", "--count", "20"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["cases", "equal"]
    assert row.split()[:2] == ["raw", "20"]
    assert sum(map(int, row.split()[2:8])) == 20
