"""From a folder of scans to a store of crops:

    python -m training.ingest FOLDER --out STORE
    python -m training.ingest FOLDER --out STORE --spacing 2.5 2 2 --crop-body --workers 8
    python -m training.ingest FOLDER --out STORE --shard 3/16      a sixteenth of it, beside others, I from 0

FOLDER is searched for whatever ``tapct_core.load_ct`` reads: NIfTI, NRRD, MetaImage, and DICOM, where
every series of a folder is a scan; or it is a text file with one path a line. A scan that cannot be
used is left out and said so in ``report.csv``; the rest goes on. Run the same command again after an
interruption, whatever caused it, or when scans were added: what is done is skipped, by content, not by name.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np

from tapct_core.cli.embed import shard
from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.terminal import print_any_name
from tapct_core.volume import CTVolume

from .data.candidates import Candidate, find_candidates
from .data.crop_store import CELL, body_map, create_store, read_index, write_index, write_scan
from .data.hu_checks import not_hu
from .data.ingest_journal import Journal, Outcome, read_outcomes, write_report
from .data.inventory import header_words, write_inventory


@dataclass(frozen=True)
class Layout:
    """How every scan of a store is laid out. ``spacing_mm`` (z, y, x): None keeps the scan's own grid."""

    spacing_mm: tuple[float, float, float] | None = None
    crop_body: bool = False

    def settings(self) -> dict:
        """As store.json keeps it."""
        return {"spacing_mm": list(self.spacing_mm) if self.spacing_mm else None, "crop_body": self.crop_body}


def take_in(candidate: Candidate, store: Path, layout: Layout, known: frozenset[str]) -> Outcome:
    """Read one candidate, check it, lay it out and write it. Never raises: what is wrong becomes the reason."""
    from tapct_core.io import load_ct

    outcome = Outcome(candidate.name, "left out")
    try:
        outcome.stamp = candidate.stamp()
        volume = load_ct(candidate.path, series=candidate.series)
        outcome.header = header_words(volume)
        outcome.reason = reason_against(volume)
        if not outcome.reason:
            outcome.scan_id = volume.content_hash[:20]
            outcome.status = "known" if outcome.scan_id in known else "taken"
            if outcome.status == "taken":
                hu, geometry = lay_out(volume, layout)
                write_scan(store, outcome.scan_id, hu, geometry, outcome.header)
    except UserError as error:
        outcome.status, outcome.reason = "left out", str(error)
    except Exception as error:  # a broken file must not end the archive's ingest
        outcome.status, outcome.reason = "left out", f"cannot be read ({type(error).__name__}: {error})"
    return outcome


def reason_against(volume: CTVolume) -> str:
    """Why a volume is of no use as a CT to learn from, in words; "" where nothing speaks against it."""
    hu, spacing = volume.hu, volume.geometry.spacing_mm
    low, high = int(hu.min()), int(hu.max())
    if hu.shape[0] < 4 or min(hu.shape[1:]) < 16:
        return f"too small: {hu.shape[0]} slices of {hu.shape[1]} x {hu.shape[2]} (a localiser or a single image?)"
    if max(spacing) > 12 or min(spacing) < 0.05:
        return "its spacing of {:.3g} x {:.3g} x {:.3g} mm is not a CT's".format(*spacing)
    if high - low < 300:
        return f"its values run from {low} to {high}: a label map, or not in HU"
    if low > -200:
        return f"its lowest value is {low} HU: no air in it, so it is probably not in HU"
    if not body_map(hu).any():
        return "it shows nothing but air"
    return not_hu(hu)


def lay_out(volume: CTVolume, layout: Layout) -> tuple[np.ndarray, Geometry]:
    """The scan as the store keeps it: cut to the body, resampled, or as it is."""
    from tapct_core.preprocessing import resample_hu

    hu, geometry = volume.hu, volume.geometry
    if layout.crop_body:
        start, shape = body_box(hu)
        hu = hu[tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))]
        geometry = geometry.cropped(start, shape)
    if layout.spacing_mm is not None:
        target = geometry.respaced(layout.spacing_mm)
        hu = resample_hu(CTVolume(np.ascontiguousarray(hu), geometry), target)
        geometry = target
    return np.ascontiguousarray(hu), geometry


def body_box(hu: np.ndarray) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Start and shape (z, y, x) of the box round the largest connected piece of body, one cell wider all round.

    All slices are kept: what is above and below a body is more body. The table goes where air parts it
    from the patient by a cell or more.
    """
    from scipy.ndimage import label

    pieces, count = label(body_map(hu, minimum=0.2))
    if count == 0:
        return (0, 0, 0), tuple(hu.shape)
    largest = np.bincount(pieces.ravel())[1:].argmax() + 1
    where = np.argwhere(pieces == largest)
    start, stop = [0], [hu.shape[0]]
    for axis in (1, 2):
        start.append(max(0, (int(where[:, axis].min()) - 1) * CELL[axis]))
        stop.append(min(hu.shape[axis], (int(where[:, axis].max()) + 2) * CELL[axis]))
    return tuple(start), tuple(b - a for a, b in zip(start, stop, strict=True))


def ingest(
    folder: Path, store: Path, layout: Layout, workers: int = 1, progress=None, part: tuple[int, int] = (0, 1)
) -> list[Outcome]:
    """Bring all scans of ``folder`` into ``store``; returns a row for each, and writes report and inventory.

    ``part`` (I, N): only those whose names fall to the I-th of N processes, which may run at the same time.
    ``progress(done, total, outcome)`` is called after each. Raises UserError where the folder or the store
    is not usable, or a worker was killed (what was finished stays).
    """
    if not folder.exists():
        raise UserError(f"{folder} does not exist; give a folder of scans, or a text file with a path a line")
    create_store(store, layout.settings())
    known = frozenset(scan.scan_id for scan in write_index(store))
    before = read_outcomes(store)
    rows: dict[str, Outcome] = {}
    todo = []
    found = list(find_candidates(folder))
    for candidate in found:
        row = before.get(candidate.name)
        if not _is_mine(candidate, part):
            continue
        if row is not None and row.stamp == _stamp(candidate) and (row.status == "left out" or row.scan_id in known):
            row.status = "known" if row.status == "taken" else row.status
            rows[candidate.name] = row
        else:
            todo.append(candidate)
    if not found:
        raise UserError(f"nothing under {folder} looks like a scan; NIfTI, NRRD, MetaImage and DICOM are read")
    try:
        with Journal(store, part) as journal:
            total = len(rows) + len(todo)
            for outcome in _run(todo, store, layout, known, workers):
                journal.add(outcome)
                rows[outcome.source] = outcome
                if progress is not None:
                    progress(len(rows), total, outcome)
    except BrokenProcessPool:
        raise UserError(
            "a worker was killed, most often for want of memory; run the same command with fewer --workers, "
            "what is finished will be skipped"
        ) from None
    finally:
        result = _mark_duplicates([rows[name] for name in sorted(rows)])
        write_report(store, {**read_outcomes(store), **{row.source: row for row in result}})
        scans = read_index(store)
    write_inventory(store, scans)
    return result


def _is_mine(candidate: Candidate, part: tuple[int, int]) -> bool:
    """By a hash of the name, so that scans which are added later move no other to another process."""
    number, count = part
    return int(hashlib.sha256(candidate.name.encode()).hexdigest()[:12], 16) % count == number


def _stamp(candidate: Candidate) -> str:
    try:
        return candidate.stamp()
    except OSError:
        return ""


def _run(todo: list[Candidate], store: Path, layout: Layout, known: frozenset[str], workers: int) -> Iterable[Outcome]:
    if workers <= 1 or len(todo) <= 1:
        for candidate in todo:
            yield take_in(candidate, store, layout, known)
        return
    # spawned, not forked: a fork copies the locks of threads that libraries have started already
    pool = ProcessPoolExecutor(min(workers, len(todo)), mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        futures = [pool.submit(take_in, candidate, store, layout, known) for candidate in todo]
        for future in as_completed(futures):
            yield future.result()
    finally:  # after a signal: what has begun is finished, what waits is not begun
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _mark_duplicates(rows: list[Outcome]) -> list[Outcome]:
    """Of rows that were taken as one scan, all but the first say so."""
    first: dict[str, str] = {}
    for row in rows:
        if row.status == "taken" and row.scan_id in first:
            row.status, row.reason = "known", f"the same scan as {first[row.scan_id]}"
        elif row.scan_id:
            first.setdefault(row.scan_id, row.source)
    return rows


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    print_any_name()
    parser = argparse.ArgumentParser(prog="python -m training.ingest", description=__doc__.split("\n")[0])
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="folder of scans, or a text file with a path a line"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="STORE")
    parser.add_argument(
        "--spacing", nargs=3, type=float, metavar=("Z", "Y", "X"), help="resample to this spacing in mm"
    )
    parser.add_argument("--crop-body", action="store_true", help="cut away the air and the table round the body")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument(
        "--shard", type=shard, default=(0, 1), metavar="I/N", help="only the I-th of N parts, I from 0; by file name"
    )
    args = parser.parse_args(argv)
    # SIGTERM ends as Ctrl-C does, also where a shell's background job ignores that: report and index are written
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def progress(done: int, total: int, outcome: Outcome) -> None:
        if outcome.status == "left out":
            print(f"left out: {outcome.source}: {outcome.reason}", file=sys.stderr)

    try:
        if args.spacing and min(args.spacing) <= 0:
            raise UserError("--spacing takes three numbers above zero, in mm, for z, y and x")
        rows = ingest(
            args.folder,
            args.out,
            Layout(tuple(args.spacing) if args.spacing else None, args.crop_body),
            args.workers,
            progress,
            args.shard,
        )
    except KeyboardInterrupt:
        print("stopped; what is finished stays, the same command goes on from here", file=sys.stderr)
        return 130
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    counts = {status: sum(row.status == status for row in rows) for status in ("taken", "known", "left out")}
    print(
        f"{counts['taken']} scans taken in, {counts['known']} known already, {counts['left out']} left out; "
        f"see {args.out / 'report.csv'} and {args.out / 'inventory.csv'}"
    )
    if not counts["taken"] and not counts["known"]:
        print(
            f"error: no scan of {args.folder} could be used; {args.out / 'report.csv'} has the reasons", file=sys.stderr
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
