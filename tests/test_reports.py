from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from restore.errors import OutputError, UsageError
from restore.metrics import METRICS
from restore.reports import (
    as_csv,
    as_document,
    as_html,
    provenance,
    save_statistics,
    statistics_files,
    write_reports,
)
from restore.reports.pictures import LARGEST_SIDE, view
from restore.reports.wording import mean, median, unlike_sets
from restore.scoring import (
    Failure,
    Measures,
    Pair,
    Preparation,
    ScoreReport,
    SetScore,
    load_measures,
    load_statistics,
    score_folders,
)

NAMES = ("a", "b<img src=x onerror=alert(1)>", 'c" onfocus="alert(1)', "d", "e", "f")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def write(path: Path, pixels: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
    return path


def picture(seed: int, shape: tuple[int, ...] = (40, 60, 3)) -> Any:
    return np.random.default_rng(seed).integers(0, 128, shape, dtype=np.uint8)


@pytest.fixture
def reports(tmp_path: Path) -> list[ScoreReport]:
    """Two predictions: errors of 1, 2, 3 … in 255, and half of them; the first pair of the second is identical."""
    for index, name in enumerate(NAMES):
        write(tmp_path / f"ref/{name}.png", picture(index))
        write(tmp_path / f"one/{name}.png", picture(index) + np.uint8(index + 1))
        write(tmp_path / f"two/{name}.png", picture(index) + np.uint8((index + 1) // 2))
    return [score_folders(tmp_path / "ref", tmp_path / name, ("psnr", "ssim")) for name in ("one", "two")]


def test_the_date_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    made = provenance({"metrics": ["psnr"]})
    assert made.date == "1970-01-02"
    assert {"restore", "python", "torch", "numpy", "opencv", "pillow", "torchvision", "lpips"} == made.versions.keys()
    try:
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("TZ", "Etc/GMT+5")  # where it is still the first of January
            time.tzset()
            assert provenance({}).date == "1970-01-02"
    finally:
        time.tzset()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH=yesterday"):
        provenance({})


def test_the_document_holds_the_first_report_and_the_others(reports: list[ScoreReport]) -> None:
    document = as_document(reports, provenance({"channel": "rgb"}))
    json.dumps(document, allow_nan=False)
    assert document["options"] == {"channel": "rgb"}
    assert {key: document[key] for key in reports[0].document()} == reports[0].document()
    (other,) = document["others"]
    assert other["pairs"][0]["scores"]["psnr"] is None
    assert other["differences"]["psnr"]["num_pairs"] == len(NAMES) - 1
    assert other["differences"]["psnr"]["mean"] > 0


def test_csv_has_one_row_a_pair_and_a_column_a_folder(reports: list[ScoreReport], tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(reports, provenance({})))))
    assert [row["name"] for row in rows] == sorted(NAMES)
    assert float(rows[0]["psnr (one)"]) == pytest.approx(20 * math.log10(255), abs=1e-4)
    assert float(rows[0]["psnr (two)"]) == math.inf
    assert rows[0]["identical (two)"] == "true"
    assert "values as stored" in json.loads(rows[0]["report"])["protocol"]
    assert not rows[1]["report"]
    (tmp_path / "one/a.png").write_bytes(b"broken")
    single = score_folders(tmp_path / "ref", tmp_path / "one", ("psnr", "ms-ssim"))
    rows = list(csv.DictReader(io.StringIO(as_csv([single], provenance({})))))
    assert "a.png" in rows[0]["failure"]
    assert not rows[0]["psnr"]
    assert not rows[1]["ms-ssim"]  # undefined for a small picture


def test_csv_holds_any_name_and_what_has_no_row(tmp_path: Path) -> None:
    for name in ("a\rb", "c"):
        write(tmp_path / f"ref/{name}.png", picture(0))
        write(tmp_path / f"out/{name}.png", picture(1))
    report = score_folders(tmp_path / "ref", tmp_path / "out", Measures(("psnr",), inception=Mean()))  # type: ignore[arg-type]
    rows = list(csv.DictReader(io.StringIO(as_csv([report], provenance({})), newline="")))
    assert [row["name"] for row in rows] == ["a\rb", "c"]
    described = json.loads(rows[0]["report"])
    assert described["metrics"]["psnr"] == METRICS["psnr"].protocol
    assert described["metrics"]["fid"].endswith("over the matched pairs")
    assert described["sets"]["out"]["fid"]["num_restored"] == 2
    assert described["sets"]["out"]["fid"]["value"] > 0


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@a", "\ta"])
def test_no_name_is_a_formula_in_a_spreadsheet(name: str, tmp_path: Path) -> None:
    for folder in ("ref", "out"):
        write(tmp_path / folder / f"{name}.png", picture(0))
    broken = Failure("broken", f"{name}.png: cannot be read")  # as from the current folder
    report = replace(score_folders(tmp_path / "ref", tmp_path / "out"), failures=(broken,))
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(as_csv([report], provenance({})), newline=""))}
    assert rows.keys() == {f"./{name}", "broken"}
    assert rows["broken"]["failure"] == f"./{name}.png: cannot be read"
    assert as_document([report], provenance({}))["pairs"][0]["name"] == name


def test_the_protocol_is_that_of_all_folders(reports: list[ScoreReport], tmp_path: Path) -> None:
    for index, name in enumerate(NAMES):
        write(tmp_path / f"deep/{name}.tif", picture(index).astype(np.uint16) * 257)
    both = [*reports, score_folders(tmp_path / "ref", tmp_path / "deep", ("psnr", "ssim"))]
    expected = "RGB, 8 bit; RGB, 8 bit against 16 bit; values as stored"
    assert expected in as_html(both, provenance({}), num_shown=0)
    rows = csv.DictReader(io.StringIO(as_csv(both, provenance({}))))
    assert json.loads(next(rows)["report"])["protocol"].startswith(expected)


def test_a_difference_says_what_it_rests_on(reports: list[ScoreReport], tmp_path: Path) -> None:
    assert f"over {len(NAMES) - 1} pairs</small>" in as_html(reports, provenance({}), num_shown=0)
    alike = score_folders(tmp_path / "ref", tmp_path / "ref", ("psnr", "ssim"))
    page = as_html([reports[0], alike], provenance({}), num_shown=0)
    assert "over 0 pairs: no pair has a finite score on both sides" in page
    differences = as_document([reports[0], alike], provenance({}))["others"][0]["differences"]
    assert differences["psnr"]["reason"] == "no pair has a finite score on both sides"
    assert differences["ssim"]["reason"] is None


def test_sets_of_different_sizes_are_no_comparison(reports: list[ScoreReport], tmp_path: Path) -> None:
    measures: Any = Measures((), inception=Mean())  # type: ignore[arg-type]
    full = score_folders(tmp_path / "ref", tmp_path / "one", measures)
    assert unlike_sets([full, full], "fid") is None
    (tmp_path / "two/d.png").unlink()
    fewer = score_folders(tmp_path / "ref", tmp_path / "two", measures)
    assert "(6 of one, 5 of two), so the values are no comparison" in as_html([full, fewer], provenance({}))
    assert reports


def test_identical_pairs_are_infinitely_good_in_either_direction(tmp_path: Path) -> None:
    write(tmp_path / "ref/a.png", picture(0))
    measures = load_measures(("psnr",), combine="1 - psnr/100")
    report = score_folders(tmp_path / "ref", tmp_path / "ref", measures)
    assert (report.value("psnr"), report.value("combined")) == (math.inf, -math.inf)
    summary = report.summary("combined")
    assert (mean(report.record("combined"), summary), median(report.record("combined"), summary)) == ("-∞", "-∞")
    assert "1 identical pair (-∞) left out" in as_html([report], provenance({}))


def test_a_mean_beside_identical_pairs_stays_a_number(tmp_path: Path) -> None:
    for name, error in (("a", 0), ("b", 1)):
        write(tmp_path / f"ref/{name}.png", picture(2))
        write(tmp_path / f"out/{name}.png", picture(2) + np.uint8(error))
    report = score_folders(tmp_path / "ref", tmp_path / "out", ("psnr",))
    metric, summary = report.record("psnr"), report.summary("psnr")
    assert (mean(metric, summary), median(metric, summary)) == ("48.13", "48.13")  # of an error of 1 in 255
    assert (summary.num_pairs, summary.num_infinite) == (1, 1)


def test_sets_that_differ_on_the_restored_side_alone_are_no_comparison(reports: list[ScoreReport]) -> None:
    both = [replace(reports[0], sets={"fid": SetScore(1.0, 9, number)}) for number in (9, 7)]
    assert unlike_sets(both[:1] * 2, "fid") is None
    assert "(9 of one, 7 of one)" in str(unlike_sets(both, "fid"))


def test_the_page_is_self_contained_and_escaped(reports: list[ScoreReport]) -> None:
    page = as_html(reports, provenance({"reference": "ref"}), num_shown=2)
    assert page == as_html(reports, provenance({"reference": "ref"}), num_shown=2)
    addresses = re.findall(r"""(?:src|href|action|data)\s*=\s*["']?([^"'>\s]+)""", page.partition("<script>")[0])
    embedded = [address for address in addresses if address.startswith("data:image/webp;base64,")]
    assert len(embedded) == 4 * (1 + 2 + 2)  # reference, restored and difference, for two folders
    assert [address for address in addresses if address not in embedded and address != "x"] == []
    assert "@import" not in page
    assert "url(" not in page
    assert "<img src=x" not in page
    assert '" onfocus' not in page
    assert "b&lt;img src=x onerror=alert(1)&gt;" in page
    for words in (
        "percentile bootstrap",
        "opencv",
        "options",
        "worst 1: ",
        "best 2: ",
        "1 identical pair (∞)",
        "95 %: ",
    ):
        assert words in page


def test_bars_and_means_stand_in_percent_of_their_axis(reports: list[ScoreReport]) -> None:
    scores = (20.0, 20.0, 21.0, 40.0)
    report = replace(
        reports[0],
        metrics=("psnr",),
        pairs=tuple(
            replace(pair, scores={"psnr": score}) for pair, score in zip(reports[0].pairs, scores, strict=False)
        ),
    )
    page = as_html([report], provenance({}), num_shown=0)
    bars = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="([\d.]+)"', page)
    assert [tuple(map(float, bar)) for bar in bars] == [(0, 5, 100), (5, 5, 50), (95, 5, 50)]
    assert re.findall(r'<line x1="([\d.]+)"', page) == ["26.25"]  # a mean of 25.25 between 20 and 40


def test_no_pair_is_among_the_worst_and_the_best(reports: list[ScoreReport]) -> None:
    page = as_html(reports, provenance({}), num_shown=4)
    assert re.findall(r"(worst|best) (\d)", page) == [
        *(("worst", str(place)) for place in "1234"),
        ("best", "1"),
        ("best", "2"),
    ]


def test_pictures_stand_side_by_side_where_nothing_moves(reports: list[ScoreReport]) -> None:
    page = as_html(reports, provenance({}), num_shown=1)
    still = re.search(r"@media print, \(scripting: none\) \{.*?\n\}", page, flags=re.DOTALL)
    assert still
    assert re.search(r"\.layer \{[^}]*display: block !important", still[0])
    assert re.search(r"\.moving, [^}]*display: none !important", still[0])
    assert '<span class="moving">Move the slider' in page


@pytest.mark.usefixtures("reports")
def test_the_page_tells_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "one/a.png").write_bytes(b"broken")
    (tmp_path / "one/d.png").unlink()
    measures = Measures(("psnr", "ms-ssim"), left_out={"lpips": "no weights, fetch them"})
    report = score_folders(tmp_path / "ref", tmp_path / "one", measures)
    (tmp_path / "one/f.png").unlink()  # between scoring and showing
    page = as_html([report], provenance({}), num_shown=1)
    for words in (
        "no weights, fetch them",
        "<strong>a</strong> failed: ",
        "1 without a restored picture: d",
        "MS-SSIM: n/a for 4 pairs",
        "The pictures could not be read again: ",
    ):
        assert words in page
    assert "0 pairs" in as_html([ScoreReport((), ())], provenance({}), num_shown=1)


def test_the_table_is_bounded(reports: list[ScoreReport], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restore.reports.page.MOST_ROWS", 3)
    page = as_html(reports[:1], provenance({}), num_shown=0)
    assert "The 3 worst of 6 pairs" in page
    table = page.partition('class="sortable"')[2]
    assert re.findall(r'<th scope="row">([^<]+)</th>', table) == ["f", "e", "d"]
    assert '<figure class="viewer">' not in page


def test_large_pictures_are_cropped_where_they_differ_most(tmp_path: Path) -> None:
    reference = np.full((1500, 1100, 3), 100, np.uint8)
    restored = reference.copy()
    restored[1400:1450, 1050:] = 140
    pair = Pair("x", write(tmp_path / "r.png", reference), write(tmp_path / "p.png", restored))
    shown = view([("p", pair)], Preparation())
    assert (shown.width, shown.height) == (LARGEST_SIDE, LARGEST_SIDE)
    assert "1024×1024 of 1100×1500 pixels" in shown.note
    pixels = decoded(shown.views[0].picture)
    assert pixels.shape == (LARGEST_SIDE, LARGEST_SIDE, 3)
    assert np.abs(pixels.astype(int) - 140).max(axis=2).min() < 8


def decoded(address: str) -> Any:
    data = base64.b64decode(address.removeprefix("data:image/webp;base64,"))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_small_pictures_and_their_difference_are_exact(tmp_path: Path) -> None:
    reference, restored = picture(0), picture(0)
    restored[:20] += 16
    pair = Pair("x", write(tmp_path / "r.png", reference), write(tmp_path / "p.png", restored))
    shown = view([("p", pair)], Preparation())
    assert not shown.note
    assert shown.scale == 16
    assert np.array_equal(decoded(shown.reference), reference)
    assert np.array_equal(decoded(shown.views[0].picture), restored)
    ends = cv2.applyColorMap(np.array([[255], [0]], np.uint8), cv2.COLORMAP_INFERNO)
    assert np.array_equal(decoded(shown.views[0].difference), np.repeat(ends, 20, 0).repeat(60, 1))


def test_grey_pictures_have_a_page_too(tmp_path: Path) -> None:
    write(tmp_path / "ref/a.png", picture(0, (12, 300)))
    write(tmp_path / "out/a.png", picture(1, (12, 300)))
    report = score_folders(tmp_path / "ref", tmp_path / "out", ("psnr",), preparation=Preparation(channel="y"))
    assert "Y, BT.601 limited" in as_html([report], provenance({}))


class Mean:
    """Stands in for Inception."""

    def features(self, pixels: Any) -> Any:
        return pixels.mean((1, 2)).double()


def test_statistics_of_two_folders_never_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "0.safetensors"
    with pytest.raises(UsageError, match=r"a_b/0\.safetensors would hold those of two folders; rename a_b"):
        statistics_files(path, ["a b", "a_b"])
    with pytest.raises(UsageError, match="of two folders"):
        statistics_files(path, [""])
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="in the way"):
        statistics_files(path, ["file"])


def test_statistics_are_saved_on_both_sides(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"ref/{name}.png", picture(0))
        write(tmp_path / f"out/{name}.png", picture(1))
    measures = Measures(("psnr",), inception=Mean())  # type: ignore[arg-type]
    report = score_folders(tmp_path / "ref", tmp_path / "out", measures, label="a/b")
    (tmp_path / "stats").mkdir()
    saved = save_statistics(tmp_path / "stats/0.safetensors", [report])
    assert saved == [tmp_path / "stats/0.safetensors", tmp_path / "stats/a_b/0.safetensors"]
    for folder, seed in (("stats", 0), ("stats/a_b", 1)):
        stored = load_statistics(tmp_path / folder)
        assert stored.n == 2
        assert stored.mean.tolist() == pytest.approx(picture(seed).mean((0, 1))[::-1] / 255, abs=1e-6)
    assert load_statistics(tmp_path / "stats/a_b").preparation == Preparation().seen_by_networks
    page = as_html([report], provenance({}))
    assert "rFID ↓" in page
    assert "N = 2 is below 2,049" in page


def test_outputs_that_cannot_be_written(reports: list[ScoreReport], tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_reports(reports, provenance({}), csv_file=tmp_path / "missing/report.csv")


DRIVER = """
<script>
const viewer = document.querySelector(".viewer"), found = {};
const width = (layer) => getComputedStyle(layer).clipPath;
const set = (role, value) => {
  const control = viewer.querySelector(`[data-role=${role}]`);
  control.value = value;
  control.dispatchEvent(new Event("input", { bubbles: true }));
  control.dispatchEvent(new Event("change", { bubbles: true }));
};
const which = viewer.querySelector("[data-role=which]");
found.which = which.value;
const layers = [...viewer.querySelectorAll(".layer")];
const seen = () => layers.filter((layer) => layer.offsetParent).map((layer) => layer.innerText);
set("split", 20);
found.clip = width(viewer.querySelector(".restored"));
found.first = seen();
set("which", 1);
found.second = seen();
viewer.querySelector("[value=difference]").click();
found.difference = seen();
found.scale = viewer.querySelector(".scale").innerText;
set("zoom", 4);
found.zoom = viewer.querySelector(".stage").offsetWidth / viewer.querySelector(".window").clientWidth;
const names = () => [...document.querySelectorAll(".sortable tbody tr")].map((row) => row.cells[0].innerText);
const buttons = document.querySelectorAll(".sortable button");
buttons[0].click();
found.by_name = names();
buttons[2].click();
found.by_second = names();
buttons[2].click();
found.reversed = names();
found.sorted = document.querySelectorAll("[aria-sort]").length;
found.overflow = document.documentElement.scrollWidth - innerWidth;
found.pictures = [...document.images].every((image) => image.complete && image.naturalWidth);
found.unnamed = [...document.querySelectorAll("input, select, button")].filter(
  (control) => !(control.ariaLabel || control.innerText || control.closest("label")?.innerText)).length;
document.title = "found " + btoa(unescape(encodeURIComponent(JSON.stringify(found))));
</script>
"""


def test_the_page_works_in_a_browser(reports: list[ScoreReport], tmp_path: Path) -> None:
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"needs a browser: {', '.join(BROWSERS)}")
    page = as_html(reports, provenance({}), num_shown=2).replace("</body>", f"{DRIVER}</body>")
    page = page.replace('<option value="1">', '<option value="1" selected>')  # as a browser that reloads keeps it
    file = tmp_path / "page.html"
    file.write_text(page, encoding="utf-8")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=375,800", "--virtual-time-budget=2000"]
    done = subprocess.run(
        [browser, *options, profile, "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    title = re.search(r"<title>found ([^<]+)</title>", done.stdout)
    assert title, done.stderr[-2000:]
    found = json.loads(base64.b64decode(title[1]))
    assert found["clip"] == "inset(0px 0px 0px 20%)"
    assert found["first"] == ["reference", "one"]
    assert found["which"] == "0"
    assert found["second"] == ["reference", "two"]
    assert found["difference"] == ["reference", "difference, two"]
    assert "/255" in found["scale"]
    assert found["zoom"] == pytest.approx(4, abs=0.01)
    assert found["by_name"] == sorted(NAMES)
    assert found["by_second"][-1] == "a"  # ∞
    assert found["reversed"] == found["by_second"][::-1]
    assert found["sorted"] == 1
    assert found["overflow"] <= 0
    assert found["pictures"]
    assert found["unnamed"] == 0
