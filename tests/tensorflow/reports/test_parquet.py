"""The Parquet files of a real run, read back by DuckDB."""

import json
import math
import struct
import sys
from dataclasses import fields, replace

import duckdb
import numpy as np
import pytest

from lossfuzz.harness.numbers.formats import BINARY16, BINARY32
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.results.findings import Finding
from lossfuzz.harness.results.histogram import Histogram, Octaves
from lossfuzz.harness.results.kinds import KINDS
from lossfuzz.harness.results.stability import EDGES
from lossfuzz.plan import Plan
from lossfuzz.reports import parquet
from lossfuzz.running import run


@pytest.fixture(scope="module")
def result(tf):
    paths = paths_matching(["tf.nn/fused", "keras/function/softmax-identity"])
    plan = Plan(
        paths=tuple(paths),
        formats=(BINARY16, BINARY32),
        modes=("eager",),
        devices=("CPU:0",),
        shapes=((32, 3),),
        rows=700,
    )
    found = run(plan)
    odd = replace(
        found.worst[0],
        observed_loss=math.nan,
        margin=-0.0,
        logits=(-0.0, math.inf, 5e-324, 0.1),
        observed_gradient=(math.nan, -math.inf),
        message="a 'quoted' \"message\", with ünïcode",
    )
    return replace(found, worst=[odd, *found.worst])


@pytest.fixture(scope="module")
def folder(result, tmp_path_factory):
    folder = tmp_path_factory.mktemp("it's") / "parquet"
    parquet.write(result, folder)
    return folder


@pytest.fixture
def rows(folder):
    def read(name, more=""):
        with duckdb.connect() as connection:
            path = str(folder / f"{name}.parquet").replace("'", "''")
            cursor = connection.execute(f"SELECT * FROM '{path}' {more}")  # noqa: S608
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    return read


def bits(value):
    """Floats by their bits, so that NaN equals itself and -0.0 is not 0.0."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    return [bits(one) for one in value] if isinstance(value, (list, tuple)) else value


def test_every_cell_has_its_figures(result, rows):
    found = rows("cells")
    assert [row["cell"] for row in found] == [one.cell.name for one in result.cells]
    for row, one in zip(found, result.cells, strict=True):
        cell, summary = one.cell, one.summary
        assert (row["path"], row["format"]) == (cell.path.name, cell.format.dtype_name)
        assert (row["mode"], row["device"], row["subject"]) == (cell.mode, cell.device, "")
        assert row["loss"] == cell.path.loss.name
        assert (row["route"], tuple(row["operations"])) == (one.route.name, one.route.operations)
        assert row["unavailable"] is None
        assert (row["rows"], row["judged"]) == (summary.rows, summary.judged)
        assert (row["searched"], row["defect_rows"]) == (one.searched, summary.defect_rows)
        for name in ("bias", "vanishing_margin", "zero_margin", "plateau"):
            assert bits(row[name]) == bits(getattr(summary, name))
        for name, value in summary.largest.items():
            assert bits(row[f"largest_{name}"]) == bits(value)
        for kind in KINDS:
            name = kind.replace(" ", "_").replace("-", "_")
            assert row[f"defect_{name}"] == summary.defects.get(kind, 0)
            assert row[f"inaccuracy_{name}"] == summary.inaccuracies.get(kind, 0)
            assert row[f"by_design_{name}"] == summary.by_design.get(kind, 0)
        for name, share in (("p50", 0.5), ("p99", 0.99), ("p9999", 0.9999)):
            expected = min(summary.loss_ulp.quantile(share), summary.largest["loss_ulp"])
            assert bits(row[f"loss_ulp_{name}"]) == bits(expected)


def test_histograms_have_the_same_counts_and_their_edges_hold_the_errors(result, rows):
    found = rows("histograms")
    assert sum(row["count"] for row in found) > 0
    for one in result.cells:
        for measure in ("loss_ulp", "gradient_ulp", "rounding_ulp"):
            mine = [r for r in found if (r["cell"], r["measure"]) == (one.cell.name, measure)]
            again = Histogram()
            for row in mine:
                again.counts[row["bin"]] += row["count"]
                inside = row["lower"] if math.isinf(row["upper"]) else 0.0
                if row["lower"] > 0 and not math.isinf(row["upper"]):
                    inside = (row["lower"] + row["upper"]) / 2
                probe = Histogram()
                probe.add(np.array([math.inf if math.isinf(row["upper"]) else inside]))
                assert probe.counts[row["bin"]] == 1
            assert np.array_equal(again.counts, getattr(one.summary, measure).counts)


def test_families_and_maps_have_the_same_figures(result, rows):
    families, octaves, places = (
        rows(name) for name in ("families", "family_histograms", "stability")
    )
    assert len(families) == sum(len(one.summary.families) for one in result.cells) > 0
    by_name = {one.cell.name: one.summary for one in result.cells}
    for row in families:
        part = by_name[row["cell"]].families[row["family"]]
        assert (row["rows"], row["judged"]) == (part.rows, part.judged)
        assert bits(row["loss_mixed"]) == bits(part.loss_mixed)
        assert bits(row["gradient_mixed"]) == bits(part.gradient_mixed)
        for kind in KINDS:
            column = f"defect_{kind.replace(' ', '_').replace('-', '_')}"
            assert row[column] == part.defects.get(kind, 0)
        for measure in ("loss_ulp", "gradient_ulp"):
            again = {
                one["octave"]: one["count"]
                for one in octaves
                if (one["cell"], one["family"], one["measure"])
                == (row["cell"], row["family"], measure)
            }
            assert Octaves(again) == getattr(part, measure)
    assert len(places) == sum(len(one.summary.stability.places) for one in result.cells) > 0
    for row in places:
        at = EDGES.index(row["margin_from"])
        assert row["margin_to"] == EDGES[at + 1]
        place = by_name[row["cell"]].stability.places[row["classes"], at]
        assert (row["rows"], row["defective"]) == (place.rows, place.defective)
        assert (row["loss_level"], row["gradient_level"]) == (place.loss, place.gradient)


def finding_of(row):
    """The finding that a row holds."""
    values = {field.name: row[field.name] for field in fields(Finding)}
    values["recipe"] = json.loads(values["recipe"])
    return Finding(**{n: tuple(v) if isinstance(v, list) else v for n, v in values.items()})


def same(finding, other):
    return all(
        bits(getattr(finding, field.name)) == bits(getattr(other, field.name))
        for field in fields(Finding)
    )


def test_findings_are_the_same_bit_for_bit(result, rows):
    found = rows("findings", "ORDER BY number")
    for name, expected in (
        ("cell", result.findings),
        ("loss", result.worst),
        ("cause", [cause.finding for cause in result.causes]),
    ):
        mine = [row for row in found if row["worst_of"] == name]
        assert len(mine) == len(expected) > 0
        for row, finding in zip(mine, expected, strict=True):
            assert (row["cell"], row["id"]) == (finding.cell_name, finding.id)
            assert same(finding_of(row), finding)


def test_causes_name_their_findings(result, rows):
    findings = {row["number"]: row for row in rows("findings")}
    found = rows("causes")
    assert len(found) == len(result.causes) > 0
    for row, cause in zip(found, result.causes, strict=True):
        assert same(finding_of(findings[row.pop("finding")]), cause.finding)
        for name, value in row.items():
            assert (tuple(value) if isinstance(value, list) else value) == getattr(cause, name)


def test_cliffs_are_the_same_to_the_last_bit(result, rows):
    found = rows("cliffs")
    cliffs = [(one.cell.name, cliff) for one in result.cells for cliff in one.cliffs]
    assert len(found) == len(cliffs) > 0
    for row, (cell, cliff) in zip(found, cliffs, strict=True):
        assert row["cell"] == cell
        for name in ("kind", "tier", "side", "classes", "confirmed"):
            assert row[name] == getattr(cliff, name)
        for side in ("at", "below"):
            edge = getattr(cliff, side)
            for field in fields(cliff.at):
                expected = None if edge is None else getattr(edge, field.name)
                assert bits(row[f"{side}_{field.name}"]) == bits(expected)


def test_the_run_says_what_was_planned_and_where_it_ran(result, rows):
    (row,) = rows("run")
    assert json.loads(row["plan"]) == result.plan
    assert json.loads(row["environment"]) == result.environment
    assert json.loads(row["reference_rows"]) == result.reference_rows
    assert json.loads(row["seconds"]) == result.seconds
    assert row["interrupted"] is False


def test_an_unavailable_cell_and_a_finding_without_its_row_are_null(result, tmp_path):
    lost = replace(result.worst[0], logits=(), target=(), observed_gradient=(), exact_gradient=())
    cells = [replace(result.cells[0], unavailable="no such op", route=None), *result.cells[1:]]
    parquet.write(replace(result, cells=cells, worst=[lost], causes=[]), tmp_path)
    with duckdb.connect() as connection:
        row = connection.execute(
            f"SELECT unavailable, route FROM '{tmp_path}/cells.parquet' LIMIT 1"  # noqa: S608
        ).fetchall()[0]
        assert row == ("no such op", None)
        arrays = connection.execute(
            f"SELECT logits, exact_gradient FROM '{tmp_path}/findings.parquet' "  # noqa: S608
            "WHERE worst_of = 'loss'"
        ).fetchall()
    assert arrays == [(None, None)]


def test_without_duckdb_it_is_one_line_that_says_what_to_install(result, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(parquet.MissingExtraError, match=r"pip install 'lossfuzz\[parquet\]'$"):
        parquet.write(result, tmp_path / "p")
    assert not (tmp_path / "p").exists()
