"""The Follow-up widget: mark lesions, be taken to them in the next scan, decide, measure, export."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QWidget

from ..callbacks import living
from ..jobs import JobBar
from ..keys import SHORTCUTS
from ..panel import fit_width, pinned, scrolling_column
from ..reading import reading_of
from ..session import session_of
from ..tabs import share_dock
from .docks import Docks
from .folding import Folding
from .form import AxesRow, Buttons, DecideBox, FindBox, LesionBox, titled
from .marking import Marking
from .masks.editor import MaskEditor
from .proposals.candidates import chosen_at_first
from .proposals.finder import Found
from .proposals.overlay import ProposalOverlay
from .proposals.search import Search
from .proposals.sentences import explain, surely_gone, title_of
from .response.overview import Overview
from .study import decisions
from .study.axes_edits import back_to_mask
from .study.bar import StudyBar
from .study.editor import editor_of
from .views.arrangement import Arrangement
from .views.axes import MeasuredAxes
from .views.calipers import Calipers
from .views.lesion_points import LesionPoints
from .views.link_bar import link_frame
from .views.linked import LinkedView

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from tapct_core.lesions import State

WIDTH = 380
"""Pixels."""


class FollowUpWidget(QWidget):
    """Docked widget. It opens the follow-up's view beside the canvas and the table of lesions below it."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self.editor = editor_of(napari_viewer)
        self.bar = JobBar()
        self.linked = LinkedView(self.session, self.editor, link_frame)
        reading_of(self.session).attach(self.linked.viewer_model)
        self.arrangement = Arrangement(self.session, self.editor)
        self.points = LesionPoints(self.session, self.editor, self.linked)
        self.axes = MeasuredAxes(self.session, self.editor, self.linked)
        self.overlay = ProposalOverlay(self.linked)
        self.search = Search(self.session, self.editor, self.bar, self)
        self.overview = Overview(self.editor)
        self._said = ""
        self._lay_out()
        share_dock(self)
        self._docks = Docks(self, self.linked, self.overview, self.masks.done)
        self._connect()
        self.refresh()

    # The form.

    def _lay_out(self) -> None:
        column = scrolling_column(self)
        column.setContentsMargins(4, 4, 4, 4)
        self.study_bar = StudyBar(self.editor, self.bar)
        self.masks = MaskEditor(self.session, self.editor, self.linked)
        self.study_bar.recovery.paints(self.masks)
        buttons = Buttons(self.session.viewer)
        self.find = FindBox(buttons, self.bar, self.search.run_all, self._on_view)
        self.lesion = LesionBox(buttons, self.overlay.threshold, self._on_heat)
        self.candidates = self.lesion.candidates
        self.decide = DecideBox(
            buttons,
            self.accept,
            self.place_at_mouse,
            self.say,
            self.new_at_mouse,
            self.undo,
            self.redo,
            self.go_on,
        )
        self.study_fold = Folding("Study", self.study_bar)
        self.study_bar.setTitle("")
        self.study_bar.recovery.failed.connect(living(self._on_not_kept))
        masks = titled("Mask and measurement", self.masks)
        self.axes_row = AxesRow(buttons, lambda: back_to_mask(self.editor))
        masks.layout().insertWidget(0, self.axes_row)
        for part in (self.study_fold, self.find, self.lesion, masks):
            column.addWidget(part)
        column.addStretch(1)
        pinned(self, self.decide)  # it is never scrolled away
        fit_width(self, column, WIDTH)

    def _connect(self) -> None:
        editor = self.editor
        for signal in (editor.changed, editor.selection_changed, editor.timepoint_changed, self.session.scans_changed):
            signal.connect(living(self.refresh))
        editor.selection_changed.connect(living(self._on_selected))
        self.search.shown.connect(self._on_shown)
        self.search.said.connect(self._on_said)
        self.search.ready.connect(self._on_ready)
        self.search.doubted.connect(editor.doubt)
        self.search.finished.connect(self._on_finished)
        self.candidates.chosen.connect(self.choose)
        self.overview.jump_requested.connect(self.go_to)
        self.marking = Marking(
            self.session, editor, self.linked, self.points, self.find.mark_button, self._on_said, self
        )
        self.find.mark_button.toggled.connect(self.refresh)
        draw, mark = self.axes_row.draw_button, self.find.mark_button
        self.calipers = Calipers(editor, self.linked, self.axes, draw, self.axes_row.say, self)
        for one, other in ((draw, mark), (mark, draw)):  # one drag or click means one thing
            one.toggled.connect(lambda on, other=other: other.setChecked(False) if on else None)

    def _open_docks(self) -> None:
        """The second view beside the canvas and the table below it, once this widget is in its own dock."""
        if not self._docks.opened and self.session.viewer is not None:
            self._docks.open()
            self.search.look()

    # What is shown.

    def refresh(self, *_: object) -> None:
        """Says what is known of the selected lesion and what can be done."""
        editor, lesion = self.editor, self.editor.lesion
        self.study_fold.say(self.study_bar.summary())
        self.study_fold.done(bool(editor.study.lesions) and not self.study_bar.asks)
        finding, found = editor.finding(), self.search.found
        here = lesion is not None and editor.timepoint is not None
        scan = editor.scan_of(editor.timepoint)
        self.lesion.setTitle(f"Lesion {lesion.name}" if lesion else "Lesion")
        if not here:
            self.lesion.title.setText("No lesion is selected." if editor.timepoint else "Open two scans of a patient.")
        else:
            self.lesion.title.setText(f"At <b>{editor.timepoint}</b>: {title_of(finding)}")
        self._show_candidates()
        self.lesion.say(explain(finding, found) if here and (finding or found) else "")
        self.find.say(self._said or self._advice())
        gone = surely_gone(finding) and self.candidates.candidate is None
        self.decide.accept_button.setText(SHORTCUTS["accept"].labelled("Accept: gone" if gone else "Accept"))
        open_ = finding is not None and not finding.decided and (finding.present or gone)
        self.decide.accept_button.setEnabled(here and (open_ or self._other_candidate()))
        self.decide.place_button.setEnabled(here and scan is not None)
        for state, button in self.decide.said_buttons.items():
            button.setEnabled(here and decisions.can_be_said(state, finding))
        self.decide.new_button.setEnabled(bool(self.session.scans))
        self.find.mark_button.setEnabled(bool(self.session.scans))
        self.find.all_button.setEnabled(bool(editor.study.lesions) and len(editor.study.timepoints) > 1)
        self.decide.show_history(editor.undo_words, editor.redo_words)
        self.decide.show_queue(len(decisions.queue(editor.study)))

    def _on_not_kept(self, _words: str) -> None:
        """That work is not kept must be seen."""
        self.study_fold.set_open(True)

    def _advice(self) -> str:
        """What to do next, while there is nothing else to say."""
        if self.find.mark_button.isChecked():
            return "Click a lesion in either view. Clicking one that is marked selects it."
        return "" if self.editor.study.lesions else "Press “Mark lesions” and click a lesion in the earlier scan."

    def _other_candidate(self) -> bool:
        finding, candidate = self.editor.finding(), self.candidates.candidate
        return candidate is not None and (finding is None or finding.point_lps_mm != candidate.point_lps_mm)

    def _show_candidates(self) -> None:
        editor, found = self.editor, self.search.found
        lesion, finding = editor.lesion, editor.finding()
        source = found.source if found is not None else self._source()
        known = lesion.findings.get(source) if lesion is not None and source else None
        scans = editor.scan_of(source), editor.scan_of(editor.timepoint)
        volumes = [scan.volume if scan is not None else None for scan in scans]
        self.candidates.setVisible(lesion is not None)
        index = self._index(finding)
        low, high = scans[1].layer.contrast_limits if scans[1] is not None else (-160.0, 240.0)
        self.candidates.show_lesion(
            (source or "", volumes[0], known),
            (editor.timepoint or "", volumes[1], finding),
            index,
            (high - low, (high + low) / 2),
        )
        self.overlay.show_candidates(scans[1], finding, index)
        several = finding is not None and len(finding.candidates) > 1
        self.lesion.previous_button.setEnabled(several)
        self.lesion.next_button.setEnabled(several)

    _choice: tuple[Any, int] | None = None
    """What a person chose: for which finding (its place in the study and its candidates), and which candidate."""

    def _index(self, finding: Any) -> int | None:
        if self._choice is not None and finding is not None and self._choice[0] == self._choice_key(finding):
            return self._choice[1]
        return chosen_at_first(finding)

    def _choice_key(self, finding: Any) -> tuple:
        return self.editor.selected, self.editor.timepoint, finding.candidates, finding.point_lps_mm

    def _source(self) -> str | None:
        """The scan in which the selected lesion is known."""
        from tapct_core.lesions.tracking import source_timepoint

        lesion, timepoint = self.editor.lesion, self.editor.timepoint
        if lesion is None or timepoint is None:
            return None
        return source_timepoint(self.editor.study, lesion, timepoint)

    # What the searches say.

    def _on_said(self, words: str) -> None:
        self._said = words
        self.refresh()

    def _on_ready(self, motion: np.ndarray) -> None:
        self.linked.set_transform(motion, "by the patient's motion")

    def _on_finished(self, summary: str, notes: list[str]) -> None:
        left = len(decisions.queue(self.editor.study))
        rows = [f"{summary}; {left} to verify.", *(f"{note[:1].upper()}{note[1:]}." for note in notes)]
        self._said = "\n".join(rows)
        self.refresh()

    def _on_shown(self, found: Found | None) -> None:
        scan = self.editor.scan_of(self.editor.timepoint)
        self.overlay.show_heat(scan, found)
        if found is not None:
            self._said = ""
            self._show_place()
        self.refresh()

    def _on_selected(self) -> None:
        """Shows the lesion where it is known; its place in the follow-up comes with the search."""
        self._choice = None
        lesion = self.editor.lesion
        if lesion is None:
            return
        known = [t.name for t in self.editor.study.timepoints if t.name in lesion.findings]
        name = self._source() or next(iter(known), None)
        scan = self.editor.scan_of(name)
        if scan is None or not lesion.findings[name].present:
            return
        alone = self._source() is None  # then it is the second view that the first one follows
        with nullcontext() if alone else self.linked.moving():
            if name != self.editor.timepoint or self.session.active is None:
                self.session.show(scan)
                self.linked.first.look(lesion.findings[name].point_lps_mm)
            self._show_place()

    def _show_place(self) -> None:
        """The follow-up's view at the chosen candidate, or at the finding's own place."""
        finding, found = self.editor.finding(), self.search.found
        index = self._index(finding)
        place = finding.point_lps_mm if finding is not None else None
        if finding is not None and index is not None:
            place = finding.candidates[index].point_lps_mm
        if found is not None and self.session.active is self.editor.scan_of(found.source):
            if place is None and found.match.matches and found.match.in_view:
                place = found.match.best.point_lps_mm
            if place is None:
                self.linked.set_transform(found.motion, "by the patient's motion")
            else:
                self.linked.set_transform(found.transform(place), f"round {self.editor.lesion.name}")
        elif found is None and place is not None and self._source() is None:
            self.linked.show_in_second(place)  # it is known here alone; both views go there
        elif found is None and place is not None:
            self.linked.jump_to(place)

    # What a person does.

    def choose(self, index: int) -> None:
        """Chooses a candidate and shows it; nothing is decided by that."""
        self._choice = self._choice_key(self.editor.finding()), index
        self._show_place()
        self.refresh()

    def accept(self) -> None:
        """The proposal is right, or the candidate that is chosen."""
        decisions.accept(self.editor, self.candidates.candidate)

    def say(self, state: State) -> None:
        """A person's word for the lesion, such as that it is not present."""
        decisions.say(self.editor, state)

    def place_at_mouse(self) -> None:
        """The lesion lies where the mouse points in the follow-up's view, else in its middle."""
        decisions.place(self.editor, self.marking.at_mouse())

    def new_at_mouse(self) -> None:
        """A new lesion where the mouse points in the follow-up's view; without a follow-up, in the first view."""
        if self.editor.timepoint is None or self.editor.scan_of(self.editor.timepoint) is None:
            scan = self.session.active
            decisions.mark(self.editor, self.editor.timepoint_of(scan), tuple(self.linked.first.focus))
        else:
            decisions.mark(self.editor, self.editor.timepoint, self.marking.at_mouse())

    def undo(self) -> None:
        """Takes the last change back; while somebody paints, the last stroke."""
        if self.masks.undo():
            return
        words = self.editor.undo()
        self._on_said(f"Taken back: {words}." if words else "")

    def redo(self) -> None:
        """Makes it again."""
        words = self.editor.redo()
        self._on_said(f"Made again: {words}." if words else "")

    def go_on(self) -> None:
        """The next finding that nobody has decided on."""
        following = decisions.next_to_verify(self.editor)
        if following is not None:
            self.go_to(*following)

    def go_to(self, uid: str, timepoint: str) -> None:
        """Shows a lesion at a time point."""
        self.editor.set_timepoint(timepoint)
        if self.editor.selected == uid:
            self._on_selected()
        self.editor.select(uid)

    def _on_heat(self) -> None:
        self.overlay.set_heat(self.lesion.heat.isChecked(), self.lesion.threshold.value() / 10)

    def _on_view(self) -> None:
        if self.linked.shown:
            self.linked.hide()
        else:
            self.linked.show()

    def showEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's own name
        """In its dock, it brings the others."""
        super().showEvent(event)
        QTimer.singleShot(0, self._open_docks)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's own name
        """Closed for good, its docks go with it."""
        super().changeEvent(event)
        if event.type() == QEvent.ParentChange and self._docks.opened and self.parentWidget() is None:
            self.linked.close()
            self.study_bar.recovery.paints(None)
            self.arrangement.close()
            self._docks.close()
