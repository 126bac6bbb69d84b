"""The HTML report: whole, self-contained, and its pictures and numbers those of the study."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread

from tapct_core.export import write_report
from tapct_core.export.report_pictures import PIXELS, side_mm
from tapct_core.lesions import Finding, Study, Timepoint
from tapct_core.lesions.assessment import assess
from tests.tapct_core.studies import study_and_volumes

VOID = {"meta", "br", "image", "line", "circle", "path", "polygon", "polyline"}


class Page(HTMLParser):
    """The elements of a page; fails on one that is not closed in its order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    def of(self, tag: str, kind: str = "") -> list[dict[str, str]]:
        return [a for t, a in self.found if t == tag and kind in f" {a.get('class', '')} ".split() + [""]]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    study, volumes = study_and_volumes()
    study.lesions[0].name = "<b>lung & co</b>"
    study.judge_non_targets("week 24", True, "AB", "effusion, now on both sides")
    path = write_report(study, volumes, tmp_path_factory.mktemp("report") / "report.html")
    text = path.read_text(encoding="utf-8")
    return study, volumes, text, Page(text)


def test_it_opens_anywhere(written):
    *_, text, page = written
    assert not page.of("script") and not page.of("link") and not page.of("iframe")
    outside = [a[k] for _, a in page.found for k in ("href", "src") if k in a]
    assert outside and all(address.startswith("data:image/png;base64,") for address in outside)
    assert "url(" not in text and "@import" not in text
    assert "prefers-color-scheme: dark" in text and "@media print" in text
    assert "size: A4" in text and text.count("<thead>") == text.count("<table>") > 0  # headings on every printed page
    assert "Research use only" in "".join(page.text) and "not a medical device" in re.sub(r"\s+", " ", text)


def test_words_of_people_stay_words(written):
    *_, text, page = written
    assert "<b>lung & co</b>" in "".join(page.text) and "<b>lung &" not in text


def test_every_place_has_its_picture_with_outline_and_axes(written):
    study, volumes, _, page = written
    present = [f for lesion in study.lesions for f in lesion.findings.values() if f.present]
    assert len(page.of("image")) == len(present) == 16
    assert len(page.of("polyline", "axis")) == 2 * len(present)
    assert "".join(page.text).count("not present") >= 2


def test_outline_and_axis_measure_what_the_table_says(written):
    """Square millimetres within the drawn outline are those of the mask's slice; the drawn axis has its length."""
    study, volumes, text, _ = written
    lesion = study.lesions[1]
    finding = lesion.findings["baseline"]
    figure = re.search(rf'aria-label="{lesion.name} at baseline".*?</svg>', text)[0]
    scale = side_mm(lesion) / PIXELS
    outlines = [points(p) * scale for p in re.findall(r'<polygon class="outline" points="([^"]+)"', figure)]
    x, y = np.concatenate(outlines).T
    area = abs(sum(np.roll(o[:, 0], 1) @ o[:, 1] - o[:, 0] @ np.roll(o[:, 1], 1) for o in outlines)) / 2
    spacing = volumes["baseline"].geometry.spacing_mm
    flat = finding.mask.voxels[finding.measurement.slice_index - finding.mask.start[0]]
    assert area == pytest.approx(flat.sum() * spacing[1] * spacing[2], rel=0.06)  # corners are cut
    long, short = (points(p) * scale for p in re.findall(r'<polyline class="axis" points="([^"]+)"', figure))
    assert np.linalg.norm(np.diff(long, axis=0)) == pytest.approx(finding.measurement.long_axis_mm, abs=0.1)
    assert np.linalg.norm(np.diff(short, axis=0)) == pytest.approx(finding.measurement.short_axis_mm, abs=0.1)
    assert x.min() < long[:, 0].min() + 1 and x.max() > long[:, 0].max() - 1


def points(words: str) -> np.ndarray:
    return np.array([[float(c) for c in pair.split(",")] for pair in words.split()])


def test_the_picture_shows_the_lesion(written):
    """Within the axes' crossing the painted lesion, 40 HU, is brighter than the lung round it."""
    *_, text, _ = written
    figure = re.search(r'aria-label="lung 2 at baseline".*?</svg>', text)[0]
    grey = imread(BytesIO(b64decode(re.search(r"base64,([^\"]+)", figure)[1])), format="png")
    assert grey.shape == (PIXELS, PIXELS) and grey[PIXELS // 2, PIXELS // 2] > grey[5, 5] + 0.1


def test_sums_rules_and_who_said_so(written):
    study, _, _, page = written
    words = re.sub(r"\s+", " ", " ".join(page.text))
    for one in assess(study, 2.5):
        assert one.response.category in words and one.response.rule in words
        assert f"{one.response.sum_mm:.1f}" in words
    assert "non-targets judged by AB: effusion, now on both sides" in words
    assert "provisional: rests on proposals" in words and "accepted, CD" in words
    assert words.count("to be verified") == 4
    assert len(page.of("span", "open")) >= 4 and "confidence 91%" in words


def test_scans_are_asked_for_one_by_one_and_may_be_missing(tmp_path):
    study, volumes = study_and_volumes()
    asked = []

    class Read(Mapping):
        def __getitem__(self, name):
            asked.append(name)
            if name == "week 8":
                raise KeyError(name)
            return volumes[name]

        __iter__, __len__ = None, None

    told = []
    path = write_report(study, Read(), tmp_path / "r.html", progress=lambda *both: told.append(both))
    assert asked == [timepoint.name for timepoint in study.timepoints]
    assert told == [(n, 4) for n in (1, 2, 3, 4)]
    page = Page(path.read_text(encoding="utf-8"))
    assert "".join(page.text).count("scan not at hand") == 4
    assert len(page.of("image")) == 12


def test_studies_with_little_in_them_are_reports_too(tmp_path):
    for study in (
        Study(""),
        Study("p", [Timepoint("a", "a.nii")]),
        Study("p", [Timepoint("a", "a.nii"), Timepoint("b", "b.nii")]),
    ):
        assert "Lesion follow-up" in "".join(Page(write_report(study, {}, tmp_path / "r.html").read_text()).text)
    study.add_lesion("only placed", "a", (0, 0, 0), "AB")
    study.propose(study.lesions[0].uid, "b", Finding("proposed", verdict="out of view"))
    page = Page(write_report(study, {}, tmp_path / "r.html").read_text())
    assert "out of view" in "".join(page.text) and not page.of("image")


def test_a_mask_of_another_grid_is_not_drawn(tmp_path):
    study, volumes = study_and_volumes()
    whole = volumes["baseline"]
    shape = (len(whole.hu) - 2, *whole.hu.shape[1:])
    cut = type(whole)(whole.hu[2:], whole.geometry.cropped((2, 0, 0), shape))
    page = Page(write_report(study, {"baseline": cut}, tmp_path / "r.html").read_text())
    assert len(page.of("image")) == 4 and not page.of("polygon", "outline")


def test_nothing_half_written_stays(tmp_path):
    study, volumes = study_and_volumes()
    (tmp_path / "r.html").write_text("old")

    class Broken(dict):
        def get(self, name):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        write_report(study, Broken(), tmp_path / "r.html")
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"] and (tmp_path / "r.html").read_text() == "old"
