"""Series of a PACS into a folder (WADO-RS), instance by instance: whole or not there, and never twice.

    OUT/SERIES_UID/SOP_UID.dcm       a whole series
    OUT/.part-SERIES_UID/            one on its way; what is in it is not asked for again

Standard: DICOM PS3.18 10.4 (Retrieve Transaction).
"""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import atomic_path
from ..errors import UserError
from ..folder_lock import FolderLock
from ..hu_windows import grey_levels
from ..io.dicom_slices import quiet, text
from ..progress import Cancel, Progress
from .connection import Connection, Unreachable
from .finding import RemoteSeries, pages, value

PART = ".part-"
UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*", re.ASCII)
"""What may become the name of a file or folder; a server may send anything."""
THUMBNAIL = 96
TRIES, PAUSE_S = 3, 1.0
"""How often an instance is asked for where the line breaks, and how long is waited in between."""


def get_series(
    server: Connection,
    series: RemoteSeries,
    out: str | Path,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Path | None:
    """Fetch what is not there yet of a series -> its folder, when all of it is; None where ``cancel`` said stop.

    What was fetched before a break, or a stop, is kept and not fetched again. Files can be read by their owner alone.
    Raises UserError for a line that breaks and stays broken, an answer that is another instance, a series without
    images, one that another program is fetching here, and a disk that refuses.
    """
    uids = instances_of(server, series)
    folder, part = Path(out) / series.series_uid, Path(out) / f"{PART}{series.series_uid}"
    try:
        part.mkdir(parents=True, exist_ok=True)
        part.chmod(0o700)
        lock = FolderLock(part)
        if not lock.take(stale_s=0.0):
            raise UserError("another program is fetching this series into the same folder; wait for it")
        try:
            for number, uid in enumerate(uids):
                if progress is not None:
                    progress(number, len(uids))
                name = f"{uid}.dcm"
                if (folder / name).is_file() or (part / name).is_file():
                    continue
                if cancel is not None and cancel():
                    return None
                try:
                    _fetch(server, series, uid, part / name)
                except Unreachable as error:
                    raise UserError(
                        f"{error}; {number} of {len(uids)} images are here and will not be fetched again"
                    ) from None
            _finish(part, folder)
        finally:
            lock.close()
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}; choose a folder with space") from None
    if progress is not None:
        progress(len(uids), len(uids))
    return folder


def instances_of(server: Connection, series: RemoteSeries) -> list[str]:
    """SOPInstanceUIDs of a series in the order of instance numbers. Raises UserError where there are none."""
    with server.asked() as client:
        where = series.study_uid, series.series_uid
        rows = list(pages(client.search_for_instances, ("InstanceNumber",), {}, "SOPInstanceUID", *where))
    uids = [value(row, "SOPInstanceUID") for row in sorted(rows, key=_instance_number)]
    if not uids or not all(UID.fullmatch(uid) for uid in (*uids, series.series_uid)):
        raise UserError(f"{server.host} lists no images of that series, or under no valid UIDs; ask those who run it")
    return uids


def picture_of(server: Connection, series: RemoteSeries) -> np.ndarray | None:
    """The image half way along in the soft tissue window, uint8 (rows, columns) of at most twice THUMBNAIL pixels.

    It is kept in memory alone. None where it cannot be decoded.
    """
    uids = instances_of(server, series)
    dataset = _retrieved(server, series, uids[len(uids) // 2])
    try:
        with quiet():
            stored = dataset.pixel_array
            plane = stored if stored.ndim == 2 else stored[len(stored) // 2]
            slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
        step = max(1, max(plane.shape) // (2 * THUMBNAIL))
        return grey_levels(plane[::step, ::step].astype(np.float32) * slope + intercept)
    except Exception:  # whatever a decoder raises, the series can still be chosen by its words
        return None


def _instance_number(row: dict) -> tuple[int, str]:
    words = value(row, "InstanceNumber")
    return (int(words) if words.lstrip("-").isdigit() else 0, value(row, "SOPInstanceUID"))


def _retrieved(server: Connection, series: RemoteSeries, uid: str) -> Any:
    """One instance as it is stored. Raises UserError where another one comes."""
    with server.asked() as client, quiet():
        dataset = client.retrieve_instance(series.study_uid, series.series_uid, uid)
    if text(dataset, "SOPInstanceUID") != uid or text(dataset, "SeriesInstanceUID") != series.series_uid:
        raise UserError(f"{server.host} sent another image than was asked for; ask those who run it")
    return dataset


def _fetch(server: Connection, series: RemoteSeries, uid: str, path: Path) -> None:
    for attempt in range(1, TRIES + 1):
        try:
            dataset = _retrieved(server, series, uid)
            break
        except Unreachable:
            if attempt == TRIES:
                raise
            time.sleep(PAUSE_S * attempt)
    with atomic_path(path, private=True) as file, quiet():
        dataset.save_as(file)


def _finish(part: Path, folder: Path) -> None:
    """The part becomes the whole; images that the PACS got since go to those that are there."""
    if not folder.is_dir():
        os.replace(part, folder)
        return
    for file in part.iterdir():
        if not file.name.startswith("."):
            os.replace(file, folder / file.name)
    shutil.rmtree(part)
