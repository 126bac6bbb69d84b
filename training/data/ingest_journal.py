"""What became of every file that an ingest looked at: one line of JSON each, written the moment it is known.

    STORE/journal/0-of-1.jsonl    each process of an ingest appends to a file of its own, so nothing is overwritten
    STORE/report.csv              the same for people, when an ingest ends

Whatever ends an ingest, a full disk or ``kill -9``, the next one knows what was done before; of a line that was cut
off only that one file is looked at again.
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tapct_core.atomic import atomic_path
from tapct_core.strict_json import read_json

FOLDER = "journal"
OLD_REPORT = "report.json"
OLD_BYTES = 1 << 28
"""Where stores of earlier versions keep their rows; it is read and never written."""


@dataclass
class Outcome:
    """One file or series. ``status``: "taken", "known" (that scan is in the store already) or "left out"."""

    source: str
    status: str
    scan_id: str = ""
    reason: str = ""
    stamp: str = ""
    header: dict[str, str] = field(default_factory=dict)


class Journal:
    """The journal of one process of an ingest, ``part`` I of N; use as a context manager."""

    def __init__(self, store: Path, part: tuple[int, int] = (0, 1)) -> None:
        self.path = store / FOLDER / f"{part[0]}-of-{part[1]}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Journal:
        whole = not self.path.is_file() or self.path.read_bytes()[-1:] in (b"", b"\n")
        self._file = open(self.path, "a", encoding="utf-8")
        if not whole:  # the last line was cut off: what follows must not be joined to it
            self._file.write("\n")
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def add(self, outcome: Outcome) -> None:
        """One line, handed to the operating system at once."""
        self._file.write(json.dumps(asdict(outcome)) + "\n")
        self._file.flush()


def read_outcomes(store: Path) -> dict[str, Outcome]:
    """The last that was said of every source, by its name; empty before the first ingest."""
    rows: dict[str, Outcome] = {}
    if (store / OLD_REPORT).is_file():
        try:
            rows = {row["source"]: Outcome(**row) for row in read_json(store / OLD_REPORT, OLD_BYTES)}
        except (OSError, ValueError, KeyError, TypeError):
            rows = {}
    for path in sorted((store / FOLDER).glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                outcome = Outcome(**json.loads(line))  # names of files may be no Unicode
            except (ValueError, TypeError, RecursionError):
                continue
            rows[outcome.source] = outcome
    return rows


def write_report(store: Path, rows: dict[str, Outcome]) -> None:
    """report.csv, sorted by source."""
    with atomic_path(store / "report.csv") as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "status", "scan", "reason"])
        writer.writerows([row.source, row.status, row.scan_id, row.reason] for _, row in sorted(rows.items()))
