"""`report.html`: valid, self-contained, true to the files, and inert whatever the data say."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import html5lib
import pytest

from samacli.errors import SamaError
from samacli.export.escape import printable
from samacli.report import build_report
from tests.report.runs import method, pruning, write_run

HOSTILE = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked=1'>",
    "=cmd|'/c calc'!A0",
    "\x1b[31mred\x1b[0m\x07",
    '"><svg onload="window.hacked=1">',
    "{{ 7 * 7 }} {% raw %}",
    "</script></style></title>",
    "&lt;b&gt; & &amp;",
    "$\\frac{1}{2$ not mathematics",
    "\u202egnirts desrever",
    "lone \ud83d surrogate",
    "'; alert(1); '",
]


def parsed(page: Path) -> Any:
    """The document; a ParseError where the page is not valid HTML."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse(page.read_text(encoding="utf-8"))


def words(document: Any) -> str:
    body = document.find("body")
    return " ".join(" ".join(body.itertext()).split())


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("report") / "text")
    build_report(folder)
    return folder


@pytest.fixture(scope="module")
def image_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(
        tmp_path_factory.mktemp("report") / "images",
        workflow="prune",
        images=True,
        classes=[str(digit) for digit in range(10)],
        methods=pruning(),
    )
    build_report(folder)
    return folder


def test_it_is_valid_and_reaches_out_for_nothing(text_run: Path, image_run: Path) -> None:
    for run in (text_run, image_run):
        document = parsed(run / "report.html")
        for element in document.iter():
            for name, value in element.attrib.items():
                name = name[1] if isinstance(name, tuple) else name
                if name in ("src", "href", "xlink:href", "srcset", "action", "poster", "data"):
                    assert value.startswith(("data:", "#")), (element.tag, name, value)
        text = (run / "report.html").read_text()
        assert "@import" not in text
        assert set(re.findall(r"url\((.)", text)) <= {"#"}
        assert "default-src 'none'" in text


def test_it_can_be_read_without_eyes(text_run: Path, image_run: Path) -> None:
    for run in (text_run, image_run):
        document = parsed(run / "report.html")
        assert document.attrib["lang"] == "en"
        assert len(document.findall(".//main")) == len(document.findall(".//h1")) == 1
        for tag in ("header", "nav", "footer"):
            assert document.findall(f".//{tag}"), tag
        for table in document.iter("table"):
            caption = table.find("caption")
            assert caption is not None
            assert "".join(caption.itertext()).strip()
        assert all(th.attrib.get("scope") in ("row", "col") for th in document.iter("th"))
        assert all(image.attrib.get("alt") for image in document.iter("img"))
        pictures = [e for e in document.iter() if str(e.tag).endswith("svg")]
        assert len(pictures) >= 4
        assert all(p.attrib["role"] == "img" and p.attrib["aria-label"] for p in pictures)
        ids = [e.attrib["id"] for e in document.iter() if "id" in e.attrib]
        assert len(ids) == len(set(ids))
        links = [a.attrib["href"][1:] for a in document.iter("a")]
        assert set(links) <= set(ids)
        levels = [int(e.tag[1]) for e in document.iter() if e.tag in ("h1", "h2", "h3")]
        assert all(b - a <= 1 for a, b in pairwise(levels))


def test_the_figures_of_the_files_are_there_verdict_first(text_run: Path) -> None:
    text = words(parsed(text_run / "report.html"))
    first = text.index("The model in model/: 0.810 ± 0.010")
    assert first < 200
    assert "as given: 0.620 ± 0.010; clean examples alone: 0.580 ± 0.010" in text
    assert "training afresh on dataset/ was not measured" in text
    assert "+0.190 ± 0.000 against the next, noisy" in text
    assert "20 of 60 labels (33 %) score above one half for being wrong" in text
    assert "P(wrong)" not in text, "it was not calibrated"
    for figure in ("0.875", "0.930", "0, 1, 2", "2.13.0", "ab" * 32, "1.0 GiB", "5 min"):
        assert figure in text, figure
    assert "features: [loss, label]" in text, "recipe.yaml as it stands"


def test_pruning_shows_every_keep_and_its_curve(image_run: Path) -> None:
    document = parsed(image_run / "report.html")
    text = words(document)
    assert "50 % of the rows, chosen by SAMA: 0.940 ± 0.010; all rows: 0.910 ± 0.010" in text
    for name in ("full", "random 0.5", "random 0.25", "sama 0.5", "sama 0.25"):
        assert name in text
    labels = [e.attrib.get("aria-label", "") for e in document.iter()]
    assert any("share of rows kept" in label for label in labels)
    assert len(list(document.iter("img"))) > 20, "thumbnails of suspects and of the kept"


def test_a_verified_pruning_shows_both_budgets_and_what_it_recommends(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", workflow="prune", methods=pruning())
    metrics = json.loads((run / "metrics.json").read_text())
    point = {"budget": "epochs", "rows": 30, "keep": "0.5", "steps": 10}
    metrics["curve"] = [
        {**point, "selection": "sama", "accuracy": [0.8, 0.9]},
        {**point, "selection": "random", "accuracy": [0.7, 0.75]},
        {**point, "selection": "sama", "accuracy": [0.9, 0.9], "budget": "steps"},
    ]
    metrics["recommended"] = {"steps": {"keep": "0.5", "rows": 30, "why": "keep <half> of it"}}
    metrics["diagnosis"] = {"case": "keeps hard", "warning": "hard rows win"}
    (run / "metrics.json").write_text(json.dumps(metrics))
    text = words(parsed(build_report(run)))
    for said in ("keep <half> of it", "hard rows win", "same number of epochs"):
        assert said in text


@pytest.mark.parametrize(
    ("sama", "clean", "tone", "said"),
    [
        ((0.80, 0.81, 0.82), (0.58, 0.57, 0.59), "good", "the best of"),
        ((0.70, 0.71, 0.72), (0.85, 0.86, 0.87), "bad", "not the best here: clean is better"),
        ((0.80, 0.81, 0.82), (0.80, 0.80, 0.81), "open", "not told apart"),
        ((0.80,), (0.58,), "open", "by one seed alone, so the two are not told apart"),
    ],
)
def test_the_verdict_says_who_won_and_whether_chance_did(
    tmp_path: Path, sama: tuple[float], clean: tuple[float], tone: str, said: str
) -> None:
    methods = {"noisy": method(*(0.5 for _ in sama)), "clean": method(*clean)}
    run = write_run(tmp_path / "run", methods={**methods, "sama": method(*sama)})
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**metrics, "seeds": list(range(len(sama)))}))
    document = parsed(build_report(run))
    (verdict,) = (e for e in document.iter("section") if "verdict" in e.attrib.get("class", ""))
    assert verdict.attrib["class"] == f"verdict {tone}"
    assert said in " ".join("".join(verdict.itertext()).split())


@pytest.mark.parametrize(
    ("sama", "without", "said"),
    [
        ((0.80, 0.81, 0.82), (0.70, 0.71, 0.72), "they earn it 0.100 ± 0.000"),
        ((0.70, 0.71, 0.72), (0.80, 0.81, 0.82), "they cost it 0.100 ± 0.000"),
        ((0.80, 0.82, 0.79), (0.80, 0.80, 0.80), "what they do (+0.003 ± "),
    ],
)
def test_the_verdict_says_what_the_meta_steps_earn(
    tmp_path: Path, sama: tuple[float], without: tuple[float], said: str
) -> None:
    noisy = method(0.50, 0.51, 0.52)
    methods = {"noisy": noisy, "no-meta-steps": method(*without), "sama": method(*sama)}
    text = words(parsed(build_report(write_run(tmp_path / "run", methods=methods))))
    assert "Without its meta steps, all else alike, the model has" in text
    assert said in text
    assert "the clean rows' share, class shares and beliefs +0." in text
    del methods["no-meta-steps"]
    text = words(parsed(build_report(write_run(tmp_path / "other", methods=methods))))
    assert "Without its meta steps" not in text


def test_without_a_test_split_it_says_that_nothing_was_measured(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", methods={"sama": {**method(), "seconds": [3.0]}})
    assert "Nothing was measured" in words(parsed(build_report(run)))


@pytest.mark.parametrize("workflow", ["reweight", "prune"])
def test_hostile_text_is_inert_and_shown_as_it_is(tmp_path: Path, workflow: str) -> None:
    run = write_run(
        tmp_path / "run",
        workflow=workflow,
        classes=["<script>alert(1)</script>", "=cmd()", "\x1b[31m$x_{$ & \"'"],
        texts=[text for text in HOSTILE if "\ud83d" not in text],
        methods=pruning() if workflow == "prune" else None,
    )
    (run / "recipe.yaml").write_text(
        "description: \"</title><script>alert(2)</script>\"\nprune: {features: ['<b>']}\n"
    )
    clean = write_run(tmp_path / "clean", workflow=workflow, methods=pruning())
    document = parsed(build_report(run))
    expected = parsed(build_report(clean))
    for tag in ("script", "style", "title", "svg", "b", "iframe"):
        assert len(list(document.iter(tag))) == len(list(expected.iter(tag))), tag
    for element in document.iter():
        assert not [name for name in element.attrib if str(name).lower().startswith("on")]
    page = (run / "report.html").read_text()
    assert printable(page) == page
    if workflow == "reweight":
        text = words(document)
        for shown in HOSTILE:
            if "\ud83d" not in shown:
                assert " ".join(printable(shown).split()) in text, shown


def test_the_same_files_give_the_same_report(text_run: Path, tmp_path: Path) -> None:
    shutil.copytree(text_run, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "report.html").unlink()
    again = build_report(tmp_path / "elsewhere")
    assert again.read_bytes() == (text_run / "report.html").read_bytes()


def test_a_run_without_curves_or_images_that_are_gone_has_a_report(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", workflow="prune", images=True, methods=pruning())
    shutil.rmtree(run / "curves")
    shutil.rmtree(run / "suspects")
    metrics = json.loads((run / "metrics.json").read_text())
    for key in ("environment", "fingerprints", "processes", "steps", "peak_memory_bytes", "keep"):
        del metrics[key]
    (run / "metrics.json").write_text(json.dumps(metrics))
    text = words(parsed(build_report(run)))
    assert "The image is not stored in this run" in text
    assert "Learning curves" not in text


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: shutil.rmtree(run), "there is no directory"),
        (lambda run: (run / "metrics.json").unlink(), r"holds no metrics\.json"),
        (lambda run: (run / "metrics.json").write_text("{"), "is not JSON"),
        (lambda run: (run / "metrics.json").write_text("[]"), "no object of figures"),
        (lambda run: (run / "metrics.json").write_text('{"workflow": "train"}'), "sama train"),
        (lambda run: (run / "recipe.yaml").unlink(), r"holds no recipe\.yaml"),
        (lambda run: (run / "recipe.yaml").write_text("a: [1"), r"recipe\.yaml"),
        (lambda run: (run / "scores.parquet").write_bytes(b"PAR1"), "cannot be read"),
        (lambda run: (run / "suspects.csv").write_bytes(b"\xff\xfe"), "cannot be read"),
    ],
)
def test_what_is_no_run_is_refused_in_one_sentence(
    tmp_path: Path, damage: Any, message: str
) -> None:
    run = write_run(tmp_path / "run")
    damage(run)
    with pytest.raises(SamaError, match=message):
        build_report(run)
