"""What speaks against an open scan being of the study's patient, and the reader's word that it is all the same."""

from __future__ import annotations

from weakref import WeakKeyDictionary, WeakSet

from ...scan import Scan, differs_in_patient
from .bound_scans import BoundScans
from .history import History


class PatientCheck:
    """Told by what headers say, against the first open scan of the study, and by what searches saw."""

    def __init__(self, history: History, scans: BoundScans) -> None:
        self._history, self._scans = history, scans
        self._vouched: WeakSet[Scan] = WeakSet()
        self._doubts: WeakKeyDictionary[Scan, str] = WeakKeyDictionary()

    @property
    def others(self) -> dict[str, str]:
        """Names of open scans that seem to be of another patient than the first one's, and what says so.

        Those that the reader has vouched for are left out.
        """
        open_ = self._open()
        found = {name: differs_in_patient(open_[0][1].volume, scan.volume) for name, scan in open_}
        vouched = {self._scans.timepoint_of(scan) for scan in self._vouched}
        return {name: words for name, words in found.items() if words and name not in vouched}

    @property
    def doubtful(self) -> dict[str, str]:
        """Names of open scans that may be of another patient by what they show, and what says so."""
        found = {
            self._scans.timepoint_of(scan): words
            for scan, words in self._doubts.items()
            if words and scan not in self._vouched
        }
        return {name: words for name, words in found.items() if name is not None}

    def doubt(self, name: str, words: str) -> bool:
        """Notes what speaks against a scan being of the study's patient; "" for nothing. Whether that is new."""
        scan = self._scans.scan_of(name)
        if scan is None or self._doubts.get(scan, "") == words:
            return False
        self._doubts[scan] = words
        return True

    def vouch(self, name: str) -> None:
        """The reader says that a scan is of the study's patient; that holds until it is closed."""
        self._vouched.add(self._scans.scan_of(name))

    def why_not_compared(self, *names: str | None) -> str:
        """Why scans must not be compared: one of them seems to be of another patient; "" where none does."""
        others = self.others
        return "; ".join(f"{name} has {others[name]} than {self._open()[0][0]}" for name in names if name in others)

    def _open(self) -> list[tuple[str, Scan]]:
        """The time points whose scans are open, with these, in the order of time."""
        found = [(t.name, self._scans.scan_of(t.name)) for t in self._history.study.timepoints]
        return [(name, scan) for name, scan in found if scan is not None]
