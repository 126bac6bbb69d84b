"""A study through time: who decides, what survives the file, what a file may not say, and what response it gives."""

from __future__ import annotations

import json
import multiprocessing
import time

import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.lesions import STATES, Candidate, Finding, Mask, Plausibility, Study, Timepoint
from tapct_core.lesions.assessment import assess, changes, diameter_mm
from tapct_core.lesions.study_file import VERSION, load_study, read_study, save_study, study_json, update_study
from tapct_core.volume import CTVolume
from tapct_core.write_lock import write_lock

GRID = Geometry.from_spacing((10, 40, 40), (2.0, 1.0, 1.0), origin_mm=(-20.0, 5.0, 0.0))
VOLUME = CTVolume(np.random.default_rng(0).normal(30, 10, GRID.shape), GRID)


@pytest.fixture
def study():
    timepoints = [Timepoint(name, f"{name}.nii.gz") for name in ("baseline", "week 8", "week 16")]
    study = Study("p1", timepoints)
    study.add_lesion("liver 1", "baseline", (1.0, 20.0, 10.0), "AB", role="target", organ="liver")
    return study


def block(long_mm: int, short_mm: int = 4) -> Mask:
    mask = np.zeros(GRID.shape, bool)
    mask[4, 10 : 10 + short_mm, 2 : 2 + long_mm] = True
    return Mask.from_array(mask)


def measured(study, lesion, timepoint, long_mm):
    """A decided finding of about this length."""
    study.move(lesion.uid, timepoint, (0.0, 20.0, 8.0), "AB")
    return study.set_mask(lesion.uid, timepoint, block(long_mm), VOLUME)


def test_a_person_decides_and_no_program_changes_it(study):
    uid = study.lesions[0].uid
    proposal = Finding("proposed", (2.0, 3.0, 4.0), candidates=(Candidate((2.0, 3.0, 4.0), 0.8, 1.5, 0.9),))
    assert study.propose(uid, "week 8", proposal)
    accepted = study.accept(uid, "week 8", "CD")
    assert (accepted.state, accepted.decided_by, accepted.candidates) == ("accepted", "CD", proposal.candidates)
    assert accepted.decided_at.endswith("+00:00")
    assert not study.propose(uid, "week 8", Finding("disappeared"))
    assert study.finding(uid, "week 8") == accepted
    moved = study.move(uid, "week 8", (9.0, 9.0, 9.0), "CD")
    assert (moved.state, moved.point_lps_mm) == ("moved", (9.0, 9.0, 9.0))
    gone = study.not_present(uid, "week 16", "CD")
    assert (gone.state, gone.present) == ("not present", False)
    study.propose(study.add_lesion("other", "week 8", (0, 0, 0), "CD").uid, "week 16", Finding("disappeared"))
    other = study.lesions[1]
    assert other.findings["week 8"].state == "new"
    assert study.accept(other.uid, "week 16", "CD").state == "not present"
    assert study.relate(other.uid, "week 8", "split", uid, "CD").related == (uid,)


def test_decisions_that_make_no_sense_are_refused(study):
    uid = study.lesions[0].uid
    study.propose(uid, "week 8", Finding("proposed", verdict="out of view"))
    for wrong, words in (
        (lambda: study.accept(uid, "week 8", "AB"), "nothing was proposed"),
        (lambda: study.accept(uid, "week 16", "AB"), "no finding"),
        (lambda: study.move(uid, "week 9", (0, 0, 0), "AB"), "no time point"),
        (lambda: study.move(uid, "week 8", (0, float("nan"), 0), "AB"), "three finite"),
        (lambda: study.move(uid, "week 8", (0, 0, 0), " "), "who decides"),
        (lambda: study.relate(uid, "baseline", "merged", uid, "AB"), "another lesion"),
        (lambda: study.lesion("1.2"), "no lesion"),
    ):
        with pytest.raises(UserError, match=words):
            wrong()


def test_masks_are_boxes_that_can_be_edited(study):
    uid = study.lesions[0].uid
    mask = block(12)
    assert mask.voxels.shape == (1, 4, 12)
    array = mask.to_array()
    array[5, 3, 3] = True
    edited = Mask.from_array(array)
    assert np.array_equal(edited.to_array(), array)
    study.set_mask(uid, "baseline", edited, VOLUME, by="AB")
    assert study.set_mask(uid, "baseline", mask, VOLUME).mask is edited  # a grown mask never replaces a drawn one
    with pytest.raises(UserError, match="empty"):
        Mask.from_array(np.zeros(GRID.shape))
    other = CTVolume(np.zeros((9, 40, 40)), Geometry.from_spacing((9, 40, 40), (2, 1, 1)))
    with pytest.raises(UserError, match="drawn on a scan"):
        mask.measure(other)


def test_a_study_survives_its_file(study, tmp_path):
    uid = study.lesions[0].uid
    study.set_mask(uid, "baseline", block(12), VOLUME, by="AB")
    candidates = (Candidate((1.0, 2.0, 3.0), 0.5, 2.5, 0.75), Candidate((4.0, 5.0, 6.0), 0.25))
    study.propose(uid, "week 8", Finding("proposed", (1.0, 2.0, 3.0), "", "", candidates, 2.5, 0.75, 0.5, "moderate"))
    study.lesions[0].name = 'odd "name" [ 1, 2 ] é'
    file = tmp_path / "p1.json"
    save_study(study, file)
    again = load_study(file)
    assert study_json(again) == study_json(study)
    assert again.lesions[0].name == study.lesions[0].name
    assert np.array_equal(again.finding(uid, "baseline").mask.to_array(), block(12).to_array())
    assert again.finding(uid, "week 8").candidates == candidates
    text = file.read_text(encoding="utf-8")
    assert '"point_lps_mm": [1.0, 2.0, 3.0]' in text
    assert max(map(len, text.splitlines())) < 400
    stamp = file.stat().st_mtime_ns
    save_study(again, file)
    assert file.stat().st_mtime_ns == stamp
    assert list(tmp_path.iterdir()) == [file]


def test_every_state_survives_its_file(study, tmp_path):
    for state in STATES:
        study.lesions[0].findings["week 8"] = Finding(state, (0.0, 0.0, 0.0), "AB", "2026-01-01T00:00:00+00:00")
        save_study(study, tmp_path / "s.json")
        assert load_study(tmp_path / "s.json").lesions[0].findings["week 8"].state == state


def test_the_least_a_person_writes(tmp_path):
    file = tmp_path / "s.json"
    lesion = {"name": "liver 1", "findings": {"baseline": {"point_lps_mm": [1, 2, 3]}}}
    timepoints = [{"name": "baseline", "path": "a.nii.gz"}, {"path": "sub/b.nii.gz"}]
    later = {"name": "late", "findings": {"b.nii.gz": {"point_lps_mm": [1, 2, 3]}}}
    file.write_text(json.dumps({"timepoints": timepoints, "lesions": [lesion, later]}))
    study = load_study(file)
    assert study.lesions[1].findings["b.nii.gz"].state == "new"
    finding = study.lesions[0].findings["baseline"]
    assert (finding.state, finding.decided, study.timepoints[1].name) == ("accepted", True, "b.nii.gz")
    assert study.lesions[0].uid.startswith("2.25.")


def write(tmp_path, change):
    data = {
        "schema": "napari-tapct study", "version": 1, "patient_key": "p",
        "timepoints": [{"name": "a", "path": "a.nii", "date": "2025-01-01"}, {"name": "b", "path": "b.nii"}],
        "lesions": [{"name": "l", "uid": "2.25.7", "findings": {"a": {"point_lps_mm": [0, 0, 0]}}}],
    }  # fmt: skip
    change(data)
    file = tmp_path / "s.json"
    file.write_text(json.dumps(data))
    return file


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(version=VERSION + 1), "newer version"),
        (lambda d: d.update(version=VERSION + 1, unheard_of=[]), "newer version"),
        (lambda d: d.update(version="1"), "version from 1"),
        (lambda d: d.update(schema="else"), "is no"),
        (lambda d: d.update(lesion=[]), "'lesion'"),
        (lambda d: d.update(timepoints=[]), "at least one scan"),
        (lambda d: d["timepoints"][1].update(name="a"), "its own name"),
        (lambda d: d["timepoints"][1].update(date="2024-01-01"), "order of their dates"),
        (lambda d: d["timepoints"][1].update(date="1.2.2025"), "YYYY-MM-DD"),
        (lambda d: d["timepoints"][1].pop("path"), "no path"),
        (lambda d: d["timepoints"][1].update(non_target_progress=True), "in braces"),
        (lambda d: d["timepoints"][1].update(non_target_progress={"at": "2025-01-01"}), "who judged"),
        (lambda d: d["timepoints"][1].update(non_target_progress={"by": "AB", "because": ""}), "'because'"),
        (lambda d: d["lesions"].append(d["lesions"][0]), "same uid"),
        (lambda d: d["lesions"][0].update(uid="x"), "no DICOM UID"),
        (lambda d: d["lesions"][0].update(role="main"), "target or non-target"),
        (lambda d: d["lesions"][0]["findings"].update(c={}), "time points are a, b"),
        (lambda d: d["lesions"][0]["findings"]["a"].update(piont=1), "'piont'"),
        (lambda d: d["lesions"][0]["findings"]["a"].update(point_lps_mm=[1, 2]), "three numbers"),
        (lambda d: d["lesions"][0]["findings"]["a"].update(state="gone"), "one of proposed"),
        (lambda d: d["lesions"][0]["findings"]["a"].update(confidence="high"), "must be a number"),
        (lambda d: d["lesions"][0]["findings"]["a"].update(mask={"bits": "?"}), "damaged"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_place(tmp_path, change, words):
    with pytest.raises(UserError, match=words) as caught:
        load_study(write(tmp_path, change))
    assert "\n" not in str(caught.value)


def test_a_study_of_an_older_version_opens_and_is_saved_as_a_new_one(tmp_path):
    file = write(tmp_path, lambda d: None)
    assert json.loads(file.read_text())["version"] == 1
    study = load_study(file)
    save_study(study, file)
    assert json.loads(file.read_text())["version"] == VERSION
    assert study_json(load_study(file)) == study_json(study)


DATES = [
    (["00000000", "2025-01-01"], ["", "2025-01-01"]),
    (["0000-00-00", "0000-00-00"], ["", ""]),
    (["2024-02-30", "2024-03-01"], ["", "2024-03-01"]),
    (["2024-06-20", "2024-05-01"], ["2024-06-20", ""]),
]


@pytest.mark.parametrize(("written", "read"), DATES)
def test_a_study_made_unreadable_by_a_program_before_opens_and_a_copy_is_kept(tmp_path, written, read):
    file = write(tmp_path, lambda d: d.update(version=2, notice="for research use only; not a diagnosis"))
    data = json.loads(file.read_text())
    for one, date in zip(data["timepoints"], written, strict=True):
        one["date"] = date
    file.write_text(json.dumps(data))
    before = file.read_bytes()
    study, known = read_study(file)
    assert [t.date for t in study.timepoints] == read and file.read_bytes() == before
    assert (tmp_path / "s.before-repair.json").read_bytes() == before
    save_study(study, file, known)
    assert [t.date for t in load_study(file).timepoints] == read
    assert (tmp_path / "s.before-repair.json").read_bytes() == before


@pytest.mark.parametrize("written", [one for one, _ in DATES])
def test_what_could_not_be_opened_again_is_not_saved(study, tmp_path, written):
    save_study(study, tmp_path / "s.json")
    before = (tmp_path / "s.json").read_bytes()
    for timepoint, date in zip(study.timepoints, written, strict=False):
        timepoint.date = date
    with pytest.raises(UserError, match="cannot be saved as it is.*(YYYY-MM-DD|order of their dates)"):
        save_study(study, tmp_path / "s.json")
    assert (tmp_path / "s.json").read_bytes() == before
    with pytest.raises(UserError, match="cannot be saved"):
        save_study(Study("p"), tmp_path / "none.json")
    assert not (tmp_path / "none.json").exists()


def test_what_is_known_of_a_measurement_survives_the_file(study, tmp_path):
    uid = study.lesions[0].uid
    study.put_mask(uid, "baseline", block(12), block(12).measure(VOLUME), plausibility=Plausibility(0.2, ("too long",)))
    study.set_comment(uid, "baseline", " beside the clip ")
    study.finding(uid, "baseline").reason = "in doubt"
    study.judge_recurrence("week 8", False, "AB", "scar")
    study.criterion = "iRECIST"
    save_study(study, tmp_path / "s.json")
    again = load_study(tmp_path / "s.json")
    found = again.finding(uid, "baseline")
    assert found.plausibility == Plausibility(0.2, ("too long",)) and found.doubtful and found.counted is None
    assert (found.comment, found.reason, again.criterion) == ("beside the clip", "in doubt", "iRECIST")
    assert again.timepoints[1].no_recurrence.note == "scar"
    assert again.confirm_measurement(uid, "baseline", "CD").counted is not None
    small = again.too_small(uid, "baseline", "CD")
    assert (small.too_small, small.measurement, small.mask, small.measured_by) == (True, None, None, "")
    save_study(again, tmp_path / "s.json")
    assert load_study(tmp_path / "s.json").finding(uid, "baseline").too_small
    assert diameter_mm(again.lesions[0], "baseline") == 5
    again.set_mask(uid, "baseline", block(12), VOLUME, by="CD")
    assert not again.finding(uid, "baseline").too_small and not again.finding(uid, "baseline").doubtful


def test_a_disappearance_that_is_not_sure_takes_more_than_accepting(study):
    uid = study.lesions[0].uid
    study.propose(uid, "week 8", Finding("disappeared", presence=0.4, verdict="not found"))
    with pytest.raises(UserError, match="gone with a probability of 60% only.*say that it is not present"):
        study.accept(uid, "week 8", "AB")
    assert not study.finding(uid, "week 8").decided
    assert study.not_present(uid, "week 8", "AB").state == "not present"
    study.propose(uid, "week 16", Finding("disappeared", presence=0.05, verdict="not found"))
    assert study.accept(uid, "week 16", "AB").state == "not present"


def test_accepting_takes_the_place_and_not_a_doubtful_measurement(study):
    uid = study.lesions[0].uid
    study.propose(uid, "week 8", Finding("proposed", (0.0, 20.0, 8.0)))
    study.put_mask(uid, "week 8", block(30), block(30).measure(VOLUME), plausibility=Plausibility(0.1))
    found = study.accept(uid, "week 8", "AB")
    assert found.decided and found.mask is not None and found.counted is None


def test_another_programs_changes_are_not_overwritten(study, tmp_path):
    file = tmp_path / "s.json"
    known = save_study(study, file)
    mine, theirs = read_study(file), read_study(file)
    assert mine[1] == theirs[1] == known
    theirs[0].lesions[0].name = "theirs"
    save_study(theirs[0], file, theirs[1])
    mine[0].lesions[0].name = "mine"
    with pytest.raises(UserError, match="changed by another program.*another name"):
        save_study(mine[0], file, mine[1])
    assert load_study(file).lesions[0].name == "theirs"
    again, known = read_study(file)
    again.lesions[0].name = "mine after all"
    known = save_study(again, file, known)
    assert save_study(again, file, known) == known
    file.unlink()
    with pytest.raises(UserError, match="changed by another program"):
        save_study(again, file, known)
    assert save_study(again, file, "")  # nothing was there, nothing is


def add_lesions(file, who, count):
    for number in range(count):
        update_study(file, lambda study, n=number: study.add_lesion(f"{who} {n}", "baseline", (0, 0, 0), who))
        time.sleep(0.003)


def test_two_programs_that_add_at_once_lose_nothing(study, tmp_path):
    file = tmp_path / "s.json"
    save_study(study, file)
    other = multiprocessing.get_context("spawn").Process(target=add_lesions, args=(file, "other", 40))
    other.start()
    while other.is_alive() and "other 0" not in file.read_text():
        time.sleep(0.005)
    add_lesions(file, "own", 40)
    other.join(60)
    assert other.exitcode == 0
    names = [lesion.name for lesion in load_study(file).lesions]
    assert names.index("own 0") < names.index("other 39")  # they did write at the same time
    assert sorted(names) == sorted(["liver 1", *(f"{who} {n}" for who in ("own", "other") for n in range(40))])
    assert list(tmp_path.iterdir()) == [file]


def test_a_lock_that_is_never_let_go_ends_in_one_line(study, tmp_path, monkeypatch):
    monkeypatch.setattr("tapct_core.write_lock.PATIENCE_S", 0.1)
    with write_lock(tmp_path / "s.json"), pytest.raises(UserError, match="another program is writing"):
        save_study(study, tmp_path / "s.json")
    assert not (tmp_path / "s.json").exists()
    save_study(study, tmp_path / "s.json")


def test_no_file_and_no_json(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_study(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{\n 'a': 1}")
    with pytest.raises(UserError, match="line 2"):
        load_study(tmp_path / "bad.json")


def test_a_study_adds_up_to_a_response(study):
    lesion = study.lesions[0]
    measured(study, lesion, "baseline", 30)
    measured(study, lesion, "week 8", 18)
    measured(study, lesion, "week 16", 26)
    first, second = assess(study)
    assert (first.response.category, second.response.category) == ("PR", "PD")
    assert first.response.sum_mm == pytest.approx(diameter_mm(lesion, "week 8"))
    assert not first.provisional
    study.add_lesion("new one", "week 8", (0, 0, 0), "AB")
    assert [one.response.category for one in assess(study)] == ["PD", "PD"]


def test_progress_of_non_targets_is_a_persons_word_that_lasts(study, tmp_path):
    lesion = study.lesions[0]
    for name in ("baseline", "week 8", "week 16"):
        measured(study, lesion, name, 20)
    assert study.judge_non_targets("week 8", False, "AB") is None
    with pytest.raises(UserError, match="no non-target"):
        study.judge_non_targets("week 8", True, "AB")
    effusion = study.add_lesion("effusion", "baseline", (0, 0, 0), "AB", role="non-target")
    for name in ("week 8", "week 16"):
        study.move(effusion.uid, name, (0, 0, 0), "AB")
    with pytest.raises(UserError, match="baseline"):
        study.judge_non_targets("baseline", True, "AB")
    with pytest.raises(UserError, match="who decides"):
        study.judge_non_targets("week 8", True, " ")
    assert [one.response.category for one in assess(study)] == ["SD", "SD"]

    study.judge_non_targets("week 16", True, "AB")
    assert [one.response.category for one in assess(study)] == ["SD", "PD"]
    said = study.judge_non_targets("week 8", True, "AB", " pleural effusion, now both sides ")
    save_study(study, tmp_path / "s.json")
    study = load_study(tmp_path / "s.json")
    assert study.timepoints[1].non_target_progress == said
    assert (said.by, said.note) == ("AB", "pleural effusion, now both sides") and said.at.endswith("+00:00")
    first, second = assess(study)
    assert first.response.category == second.response.category == "PD"
    assert first.response.rule == second.response.rule == "unequivocal progression of non-targets"
    assert first.non_target_progress == second.non_target_progress == said  # the earliest word counts on
    assert first.response.change_from_baseline == pytest.approx(0)

    study.judge_non_targets("week 8", False, "AB")
    study.judge_non_targets("week 16", False, "AB")
    assert [one.response.category for one in assess(study)] == ["SD", "SD"]
    assert "non_target_progress" not in study_json(study)


def test_all_grounds_of_progression_are_named(study):
    measured(study, study.lesions[0], "baseline", 20)
    measured(study, study.lesions[0], "week 8", 34)
    study.add_lesion("effusion", "baseline", (0, 0, 0), "AB", role="non-target")
    study.add_lesion("new one", "week 8", (0, 0, 0), "AB")
    study.judge_non_targets("week 8", True, "AB")
    one = assess(study)[0]
    sum_, new, non_targets = one.response.rule.split("; ")
    assert sum_.startswith("sum +") and new == "a new lesion: new one" and "non-targets" in non_targets
    assert one.new_lesions == ("new one",)


def test_changes_are_those_of_the_lesions_own_diameter(study):
    lesion = study.lesions[0]
    for name, length in (("baseline", 20), ("week 8", 10), ("week 16", 15)):
        measured(study, lesion, name, length)
    long = {name: diameter_mm(lesion, name) for name in lesion.findings}
    assert changes(study, lesion, "baseline") == (None, None)
    assert changes(study, lesion, "week 16") == pytest.approx(
        (100 * (long["week 16"] / long["baseline"] - 1), 100 * (long["week 16"] / long["week 8"] - 1))
    )
    study.not_present(lesion.uid, "week 8", "AB")
    assert changes(study, lesion, "week 8") == (-100, -100)
    assert changes(study, lesion, "week 16")[1] is None  # from nothing there are no per cent


def test_proposals_make_a_response_provisional(study):
    lesion = study.lesions[0]
    measured(study, lesion, "baseline", 30)
    study.propose(lesion.uid, "week 8", Finding("disappeared"))
    first, second = assess(study)
    assert (first.response.category, first.provisional) == ("CR", True)
    assert (second.response.category, second.provisional) == ("NE", False)


def test_split_and_merged_lesions_count_once(study):
    lesion = study.lesions[0]
    measured(study, lesion, "baseline", 30)
    measured(study, lesion, "week 8", 12)
    part = study.add_lesion("part", "week 8", (0, 0, 0), "AB")
    study.set_mask(part.uid, "week 8", block(10), VOLUME)
    study.relate(part.uid, "week 8", "split", lesion.uid, "AB")
    both = diameter_mm(lesion, "week 8") + diameter_mm(part, "week 8")
    assert assess(study)[0].response.sum_mm == pytest.approx(both)
    other = study.add_lesion("liver 2", "baseline", (5, 5, 5), "AB", role="target", organ="liver")
    measured(study, other, "baseline", 20)
    measured(study, other, "week 16", 25)
    measured(study, lesion, "week 16", 25)
    study.relate(lesion.uid, "week 16", "merged", other.uid, "AB")
    assert assess(study)[1].response.sum_mm == pytest.approx(diameter_mm(other, "week 16"))
