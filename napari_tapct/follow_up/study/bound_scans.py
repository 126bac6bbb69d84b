"""Which scan of the session is which time point of the study.

A time point stays in the study when its scan's layer is closed, since its findings do; a scan that is opened again is
found by its file. Which scans there are is no decision: it goes into every state that undo remembers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakSet

from tapct_core.lesions import Study, Timepoint
from tapct_core.lesions.timepoints import (
    forget_timepoint,
    insert_timepoint,
    rename_timepoint,
    set_date,
    set_series,
)

from ...scan import DATE, Scan, origin_of, patient_of, same_path
from ...session import Session
from .history import History

if TYPE_CHECKING:
    from tapct_core.volume import CTVolume


class BoundScans:
    """The open scans of the study's time points, and those that are open and not of the study."""

    def __init__(self, session: Session, history: History) -> None:
        self._session, self._history = session, history
        self._bound: dict[str, tuple[Scan, str]] = {}
        self._loose: dict[str, CTVolume] = {}
        self._left_out: WeakSet[Scan] = WeakSet()
        self._date_asked: set[str] = set()

    def begin(self) -> None:
        """Another study has come: nothing is bound, and open scans that are not of it are left out."""
        self._bound, self._loose, self._date_asked = {}, {}, set()
        self._left_out = WeakSet(scan for scan in self._session.scans if self._known(scan) is None)

    def scan_of(self, name: str | None) -> Scan | None:
        """The open scan of a time point; None while it is not open."""
        return self._bound.get(name or "", (None, ""))[0]

    def volume_of(self, name: str) -> CTVolume | None:
        """The volume of a time point that is open, or was open and is in no file yet."""
        scan = self.scan_of(name)
        return scan.volume if scan is not None else self._loose.get(name)

    def timepoint_of(self, scan: Scan | None) -> str | None:
        """The time point of a scan; None for a scan that belongs to none."""
        return next((name for name, (bound, _) in self._bound.items() if bound is scan), None)

    @property
    def left_out(self) -> list[Scan]:
        """Open scans that are not of the study."""
        return [scan for scan in self._session.scans if scan in self._left_out]

    @property
    def same_dates(self) -> dict[str, str]:
        """Time points that came in this session with the date of another one, and that one: a person says whether that
        is meant."""
        dates = {timepoint.name: timepoint.date for timepoint in self._study.timepoints}
        found = {}
        for name in [name for name in reversed(dates) if name in self._date_asked]:
            same = [other for other, date in dates.items() if other != name and date and date == dates[name]]
            if same and found.get(same[0]) != name:  # of two that came, one is asked about
                found[name] = same[0]
        return found

    def keep_date(self, name: str) -> None:
        """A person has said that the date of a time point is right, and so that there are several of that date."""
        date = next((timepoint.date for timepoint in self._study.timepoints if timepoint.name == name), "")
        self._date_asked -= {timepoint.name for timepoint in self._study.timepoints if timepoint.date == date}

    def take_in(self, scan: Scan) -> None:
        """A scan that was left out is of the study; :meth:`adopt` binds it."""
        self._left_out.discard(scan)

    def release(self) -> None:
        """Lets go of scans whose time points are no longer in the study, and of volumes that no state needs."""
        names = [timepoint.name for timepoint in self._study.timepoints]
        for name in [name for name in self._bound if name not in names]:  # its time point was removed
            scan, _ = self._bound.pop(name)
            self._left_out.add(scan)
            self._loose[name] = scan.volume  # for undo
        without_file = {
            timepoint.name for study in self._history.states for timepoint in study.timepoints if not timepoint.path
        }
        self._loose = {name: volume for name, volume in self._loose.items() if name in without_file}

    @property
    def _study(self) -> Study:
        return self._history.study

    def adopt(self) -> tuple[bool, dict[str, str]]:
        """Binds scans to time points, old ones by their file, new ones as new time points.

        Returns whether anything changed, and the new names of time points whose layers were renamed, by the old ones.
        """
        open_ = self._session.scans
        changed, renamed = False, {}
        for name, (scan, called) in list(self._bound.items()):
            if scan not in open_:
                self._unbind(name)
                changed = True
            elif scan.name != called:
                renamed[name] = self._rename(name, scan)
                changed = True
        wanted = [scan for scan in open_ if scan not in self._left_out]
        for scan in wanted:
            if self.timepoint_of(scan) is None:
                self._bind(scan)
                self._put_hidden_last()
                changed = True
            name = self.timepoint_of(scan)
            if scan.date and scan.date != self._study.timepoints[self._study.order(name)].date:
                self._history.each(lambda study, name=name, date=scan.date: set_date(study, name, date))
                self._date_asked.add(name)
                changed = True
        return changed, renamed

    def _put_hidden_last(self) -> None:
        """While nothing is dated or marked, scans stand as they were opened, those that came hidden after the others.

        Whoever opens several at once shows the one to begin with. What is looked at now says nothing: it is the scan
        that was opened last.
        """
        if not self._study.lesions and not any(timepoint.date for timepoint in self._study.timepoints):
            hidden = {name for name, (scan, _) in self._bound.items() if scan.opened_hidden}
            self._history.each(lambda study: study.timepoints.sort(key=lambda timepoint: timepoint.name in hidden))

    def _known(self, scan: Scan) -> Timepoint | None:
        """The unbound time point of a scan's file, or of its name if it has no file."""
        path, series = origin_of(scan.volume)
        for known in self._study.timepoints:
            same_file = same_path(known.path, path) and known.series_uid in ("", series)
            if known.name not in self._bound and (same_file or (not path and known.name == scan.name)):
                return known
        return None

    def _bind(self, scan: Scan) -> None:
        """To the time point it is of, to a new one if there is none."""
        path, series = origin_of(scan.volume)
        how = dict(scan.volume.source.how)
        known = self._known(scan)
        if known is not None:
            if known.date:
                scan.layer.metadata[DATE] = known.date
            self._history.each(lambda study: set_series(study, known.name, series, how))
            self._bound[known.name] = scan, scan.name
            return
        taken = {timepoint.name for timepoint in self._study.timepoints}
        name = next(n for n in (scan.name, *(f"{scan.name} ({i})" for i in range(2, 1000))) if n not in taken)
        new, patient = Timepoint(name, path, scan.date, series, reading=how), patient_of(scan.volume)
        self._history.each(lambda study: insert_timepoint(study, replace(new), patient))
        self._date_asked.add(name)
        self._bound[name] = scan, scan.name

    def _unbind(self, name: str) -> None:
        """The scan was closed. One in no file is held until it is in one, or forgotten where nothing was found."""
        scan, _ = self._bound.pop(name)
        if not self._study.timepoints[self._study.order(name)].path:
            if any(name in lesion.findings for lesion in self._study.lesions):
                self._loose[name] = scan.volume
            else:
                self._history.each(lambda study: forget_timepoint(study, name))

    def _rename(self, old: str, scan: Scan) -> str:
        """The time point follows its layer's new name, unless another one has it."""
        new = old if any(known.name == scan.name for known in self._study.timepoints) else scan.name
        self._history.each(lambda study: rename_timepoint(study, old, new))
        del self._bound[old]
        self._bound[new] = scan, scan.name
        if old in self._date_asked:
            self._date_asked = self._date_asked - {old} | {new}
        return new
