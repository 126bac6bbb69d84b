"""The journal keeps what is known through anything, and of two words on one file the later one holds."""

from __future__ import annotations

import json

from training.data.ingest_journal import Journal, Outcome, read_outcomes, write_report


def test_what_was_said_last_holds_and_a_cut_line_costs_itself_alone(tmp_path):
    assert read_outcomes(tmp_path) == {}
    with Journal(tmp_path) as journal:
        journal.add(Outcome("a", "left out", reason="broken"))
        journal.add(Outcome("b", "taken", "1"))
        journal.add(Outcome("a", "taken", "2", stamp="s"))
    with open(journal.path, "a") as file:
        file.write('{"source": "c", "stat')  # killed within a line
    with Journal(tmp_path) as journal:
        journal.add(Outcome("d", "known", "1"))
    rows = read_outcomes(tmp_path)
    assert set(rows) == {"a", "b", "d"} and (rows["a"].status, rows["a"].stamp) == ("taken", "s")


def test_parts_have_files_of_their_own_and_are_read_together(tmp_path):
    for number in range(3):
        with Journal(tmp_path, (number, 3)) as journal:
            journal.add(Outcome(f"scan{number}", "taken", str(number)))
    assert len(list((tmp_path / "journal").iterdir())) == 3
    rows = read_outcomes(tmp_path)
    assert set(rows) == {"scan0", "scan1", "scan2"}
    write_report(tmp_path, rows)
    assert len((tmp_path / "report.csv").read_text().splitlines()) == 4


def test_a_store_of_an_earlier_version_is_known(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps([{"source": "a", "status": "taken", "scan_id": "1"}]))
    assert read_outcomes(tmp_path)["a"].scan_id == "1"
    with Journal(tmp_path) as journal:
        journal.add(Outcome("a", "left out"))
    assert read_outcomes(tmp_path)["a"].status == "left out"
