"""What the benchmarks say of their figures; running them is for `dev.py bench`."""

import json
import sys

import pytest

from benchmarks import __main__, plot, running, table
from benchmarks.rows import LIMIT, OURS, PEERS, Row, Target
from benchmarks.table_of_rows import ROWS


def seconds(*figures, **more):
    return [
        {"seconds": each, "peak_mib": 100.0, "beyond_mib": 1.0, "summary": {"crc32": 1.0}} | more
        for each in figures
    ]


ROW = Row(
    name="a row",
    group="read",
    contenders=dict.fromkeys([OURS, LIMIT, *PEERS]),
    targets=(Target("best peer", 1.3), Target(LIMIT, 0.95), Target("nobody", 9.0)),
    nbytes=lambda side: side**3,
)
MEASURED = {
    OURS: seconds(1.0, 2.0, 1.0),
    LIMIT: seconds(0.5, 1.0, 0.9),
    "CloudVolume": seconds(9.0, 9.0, 9.0),
    "TensorStore": seconds(1.2, 2.0, 4.0),
}


def test_ratios_are_made_within_each_round_and_their_median_counts():
    found = table.result(ROW, MEASURED, side=100)
    assert found["best_peer"] == "TensorStore"
    assert (found["to_best_peer"], found["to_best_peer_spread"]) == (1.2, [1.0, 4.0])
    verdicts = {each["of"]: each["found"] for each in found["targets"]}
    assert verdicts == {"best peer": 1.2, LIMIT: 0.5}
    line = table.line(found)
    assert "**no**: 1.20 of best peer" in line
    assert "| 1 | 0 | 0 |" in line  # MB/s: ours, and theirs


def test_without_peers_there_are_fewer_columns_and_targets():
    alone = {name: MEASURED[name] for name in (OURS, LIMIT)}
    found = table.result(ROW, alone, side=100)
    assert found["best_peer"] is found["to_best_peer"] is None
    assert [each["of"] for each in found["targets"]] == [LIMIT]
    assert table.line(found).startswith("| a row |")


def test_a_slack_is_taken_from_our_seconds_first():
    row = Row("import", "opening", ROW.contenders, (Target("xarray", 1.0, slack_s=0.5),))
    measured = {OURS: seconds(1.4, 1.5, 1.6), "xarray": seconds(1.0, 1.0, 1.0)}
    assert [ratio for _, ratio in table.verdicts(row, measured)] == [1.0]


def test_unequal_results_are_an_error():
    running._require_equal(ROW, MEASURED)
    other = MEASURED | {"TensorStore": seconds(1.0, summary={"crc32": 2.0})}
    with pytest.raises(AssertionError, match="a row: xprecomputed"):
        running._require_equal(ROW, other)
    silent = MEASURED | {"TensorStore": seconds(1.0, summary={})}
    running._require_equal(ROW, silent)


def test_a_contender_that_fails_is_named(tmp_path):
    with pytest.raises(RuntimeError, match="read image raw by xprecomputed failed"):
        running._one(ROWS["read image raw"], OURS, tmp_path, 64, 0)


def test_a_row_that_does_not_exist_is_refused_with_those_that_do(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "read imago raw"])
    with pytest.raises(SystemExit):
        __main__.main()
    assert "no row is called ['read imago raw']; there are: read image raw," in (
        capsys.readouterr().err
    )


def test_every_row_has_us_and_can_be_judged():
    for name, row in ROWS.items():
        assert row.name == name
        assert OURS in row.contenders
        for target in row.targets:
            assert target.of in {*row.contenders, "best peer", LIMIT}
    assert len(ROWS) > 50


def test_the_chart_is_drawn(tmp_path, monkeypatch):
    results = tmp_path / "results.json"
    rows = [table.result(ROW, MEASURED, side=100)]
    results.write_text(json.dumps({"machine": "a machine", "rows": rows}))
    monkeypatch.setattr(sys, "argv", ["plot", str(results), str(tmp_path / "chart.svg")])
    plot.main()
    assert "a row (TensorStore)" in (tmp_path / "chart.svg").read_text()
