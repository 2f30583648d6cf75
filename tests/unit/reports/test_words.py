"""Counts and lists of names in English, in every text that reports make of them."""

import pytest

from lossfuzz.cli import main
from lossfuzz.harness.losses.table import LOSSES
from lossfuzz.harness.numbers.formats import BINARY32
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.route import Route
from lossfuzz.harness.paths.table import PATHS
from lossfuzz.harness.results.kinds import GRADIENT_COLLAPSE
from lossfuzz.harness.results.run import CellResult, RunResult
from lossfuzz.harness.results.summary import Summary
from lossfuzz.plan import Plan
from lossfuzz.reports import advice, html, markdown, tables
from lossfuzz.reports.headline import headline
from lossfuzz.reports.words import amount, listing

_COMMAS = [loss.name for loss in LOSSES if "," in loss.name]


def cell(path=PATHS[0], mode="eager", defects=0, judged=1):
    summary = Summary(rows=judged, judged=judged)
    if defects:
        summary.defects[GRADIENT_COLLAPSE] = defects
    where = Cell(path=path, format=BINARY32, mode=mode, device="CPU:0")
    return CellResult(where, route=Route(name="fused", operations=()), summary=summary)


def result(cells):
    return RunResult(
        plan=Plan(devices=("CPU:0",)).to_json(),
        environment={"versions": {}, "devices": ["CPU:0"]},
        cells=cells,
        worst=[],
        interrupted=False,
        reference_rows={"rows": 1},
        seconds={},
    )


def test_one_is_singular_and_thousands_are_parted():
    assert amount(1, "cell") == "1 cell"
    assert amount(0, "cell") == "0 cells"
    assert amount(1600, "cell") == "1,600 cells"
    assert amount(2, "class") == "2 classes"
    assert amount(1, "loss") == "1 loss"


def test_names_with_commas_are_kept_apart_by_semicolons():
    assert listing(["a", "b", "c"], last="and") == "a, b and c"
    assert listing(["a, b", "c"]) == "a, b; c"
    assert listing(["a, b", "c"], last="and") == "a, b; and c"
    assert listing(["a", "b", "c", "d"], most=2) == "a, b and 2 more"
    assert listing(["a"], last="and") == "a"
    assert len(_COMMAS) > 5


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "100 %"),
        (0.996, "99.6 %"),
        (0.9999, "over 99.9 %"),
        (0.14, "14 %"),
        (0.0042, "0.42 %"),
        (1e-6, "0.0001 %"),
    ],
)
def test_shares_are_percent_as_one_writes_them(value, text):
    assert tables.share(value) == text


def test_a_defect_in_all_rows_is_told_as_100_percent():
    told = advice.advice([cell(defects=64, judged=64)])
    assert "in up to 100 % of rows" in told
    assert "e+" not in told


def test_single_cells_and_rows_are_singular_everywhere():
    one = result([cell()])
    texts = [
        tables.verdict(one),
        tables.inaccuracy_note(one),
        *advice.paragraphs(one.cells).values(),
    ]
    texts += [markdown.render(one), *headline(one)]
    for text in texts:
        for wrong in ("1 cells", "1 rows", "1 measured rows", "1 judged rows", "1 kinds"):
            assert f" {wrong}" not in f" {text}", text
    missing = result([cell(), unavailable(cell(mode="graph"))])
    assert "1 cell was unavailable" in tables.verdict(missing)


def unavailable(one):
    one.unavailable = "it needs a GPU"
    return one


def test_losses_whose_names_hold_commas_stay_apart_in_the_headline():
    paths = [path for path in PATHS if path.loss.name in _COMMAS]
    chosen = list({path.loss.name: path for path in paths}.values())[:3]
    (sentence, *_) = headline(result([cell(path, defects=1) for path in chosen]))
    for path in chosen:
        assert path.loss.name in sentence
    assert sentence.count("; ") == len(chosen)


def test_a_small_share_of_defective_cells_is_not_told_as_none():
    cells = [cell(path, mode) for path in PATHS[:120] for mode in ("eager", "graph", "xla")]
    cells[0].summary.defects[GRADIENT_COLLAPSE] = 1
    *_, sentence = headline(result(cells))
    assert "0.28 % of the float32 cells" in sentence
    assert "none of the float32 cells" in headline(result([cell()]))[-1]


def test_the_page_refers_to_nothing_that_is_not_there():
    page = html.render(result([cell()]))
    assert "as above" not in page
    plan = Plan(devices=("CPU:0",))
    assert ", ".join(plan.families) in page  # 24 of them
    assert f"{len(plan.paths)}, those of the tables above" in page


def test_resume_says_what_it_does(capsys):
    with pytest.raises(SystemExit):
        main(["resume", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "Go on with a campaign that was interrupted" in told
    assert "--workers N" in told
