"""What fuzzing has found, again: each file was an error of somebody else's, a crash or a hang."""

import json
from pathlib import Path

import pytest

from tests.fuzz.cases import target

FOLDER = Path(__file__).parent / "findings"
FINDINGS = sorted(FOLDER.glob("*.json"))


def test_there_are_findings():
    assert FINDINGS


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_findings_stay_mended(path, tmp_path):
    about = json.loads(path.read_text())
    fuzzed = target(about["target"], about.get("seed", 0), tmp_path)
    outcome, message = fuzzed.replay(about, path.with_suffix(".bin").read_bytes())
    assert outcome in ("equal", "other", "error"), message
