"""Two readers of one patient: lesions matched, sizes and limits, what is to be settled, the command, the page."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tapct_core.cli import main
from tapct_core.errors import UserError
from tapct_core.lesions import Finding, Lesion, Study, Timepoint
from tapct_core.lesions.agreement import compare_readers
from tapct_core.lesions.recist import Measurement
from tapct_core.lesions.study_file import save_study


def measured(long_mm: float) -> Measurement:
    ends = ((0.0, 0.0, 0.0), (long_mm, 0.0, 0.0))
    return Measurement(long_mm, long_mm / 2, None, None, None, 0, ends, ends, drawn=True)


def finding(place, long_mm: float, by: str) -> Finding:
    return Finding("accepted", place, by, "2025-01-01T00:00:00+00:00", measurement=measured(long_mm), measured_by=by)


PLACES = {"L1": (0.0, 0.0, 0.0), "L2": (40.0, 0.0, 0.0), "L3": (80.0, 0.0, 0.0)}


def reader(by: str, sizes: dict[str, tuple[float, float]], off_mm: float = 0.0) -> Study:
    """A study of two scans; each lesion is a target of these diameters, marked with the reader's own UIDs."""
    scans = [Timepoint("a", "a.nii", series_uid="1.2.3"), Timepoint(f"later {by}", "b.nii", series_uid="1.2.4")]
    study = Study("p1", scans)
    for name, both in sizes.items():
        place = tuple(np.add(PLACES[name], off_mm / np.sqrt(3)).tolist())
        found = {t.name: finding(place, mm, by) for t, mm in zip(study.timepoints, both, strict=True)}
        study.lesions.append(Lesion(f"{by} {name}", role="target", organ=name, findings=found))
    return study


def test_lesions_are_matched_by_place_and_differences_have_limits():
    first = reader("A", {"L1": (20.0, 22.0), "L2": (30.0, 31.0)})
    second = reader("B", {"L2": (31.0, 32.0), "L1": (21.0, 21.0)}, off_mm=4)
    found = compare_readers(first, second)
    assert [pair.name for pair in found.pairs] == ["A L1 / B L1", "A L2 / B L2"] and found.targets == (2, 0, 0)
    differences = sorted(one.difference_mm for one in found.sizes)
    assert differences == [-1, 1, 1, 1] and found.mean_difference_mm == 0.5
    half = 1.96 * np.std(differences, ddof=1)
    assert found.limits_mm == pytest.approx((0.5 - half, 0.5 + half))
    assert found.timepoints == ["a", "later A"] and found.categories == [("later A", "SD", "SD")]
    assert found.to_settle == []


def test_what_differs_is_listed():
    first = reader("A", {"L1": (20.0, 20.0), "L2": (30.0, 30.0), "L3": (12.0, 12.0)})
    second = reader("B", {"L1": (20.0, 31.0), "L2": (30.0, 30.0)})
    second.lesions[1] = replace(second.lesions[1], role="non-target", node=True)
    second.lesions[1].findings["later B"] = Finding("not present", None, "B", "2025-01-01T00:00:00+00:00")
    found = compare_readers(first, second)
    said = "\n".join(found.to_settle)
    assert found.targets == (1, 2, 0)
    for words in (
        "later A, A L1 / B L1: 20.0 or 31.0 mm",
        "later A, A L2 / B L2: there or not there",
        "A L2 / B L2: role target or non-target",
        "A L2 / B L2: lymph node no or yes",
        "A L3: reader 1 alone has it",
        "later A: response SD or PD",
    ):
        assert words in said
    assert len(found.to_settle) == 6


def test_what_one_has_not_decided_and_lesions_far_apart():
    first, second = reader("A", {"L1": (20.0, 20.0)}), reader("B", {"L1": (20.0, 20.0)})
    second.lesions[0].findings["later B"].decided_by = ""
    assert "later A, A L1 / B L1: reader 2 has not decided" in compare_readers(first, second).to_settle
    apart = compare_readers(first, reader("B", {"L1": (20.0, 20.0)}, off_mm=11))
    assert [pair.name for pair in apart.pairs] == ["A L1", "B L1"] and apart.mean_difference_mm is None
    assert apart.limits_mm is None and apart.targets == (0, 1, 1)


def test_studies_that_cannot_be_compared():
    first, second = reader("A", {"L1": (20.0, 20.0)}), reader("B", {"L1": (20.0, 20.0)})
    with pytest.raises(UserError, match="different patients"):
        compare_readers(first, replace(second, patient_key="p2"))
    with pytest.raises(UserError, match="assessed by"):
        compare_readers(first, replace(second, criterion="iRECIST"))
    with pytest.raises(UserError, match="no scan in common"):
        compare_readers(first, replace(second, timepoints=[Timepoint("x", "x.nii", series_uid="9.9")]))


def test_the_command_and_its_page(tmp_path, capsys):
    files = []
    for by, sizes in (("A", {"L1": (20.0, 20.0)}), ("B <b>", {"L1": (26.0, 20.0)})):
        files.append(tmp_path / f"reader {by[0]}.json")
        save_study(reader(by, sizes), files[-1])
    argv = ["compare", *map(str, files)]
    assert main([*argv, "--json", "--out", str(tmp_path / "two.html")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["targets"] == {"both": 1, "first_alone": 0, "second_alone": 0} and said["mean_difference_mm"] == 3.0
    assert said["sizes"][0]["first_mm"] == 20.0 and len(said["limits_mm"]) == 2 and said["to_settle"]
    page = (tmp_path / "two.html").read_text(encoding="utf-8")
    assert "26.0" in page and "B &lt;b&gt; L1" in page and "<b>" not in page.replace("<body>", "")
    assert main(argv) == 0 and "20.0 or 26.0 mm" in capsys.readouterr().out
    assert main(["compare", str(files[0]), str(tmp_path / "none.json")]) == 2
