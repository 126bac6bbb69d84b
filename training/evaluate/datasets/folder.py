"""Your own scans: a CSV that names them.

    case,ct,labels,split,patient
    a,ct/a.nii.gz,labels/a.nii.gz,train,p1
    b,ct/b.nii.gz,labels/b.nii.gz,test,p2

``ct`` is needed, ``labels`` for segmentation; paths are taken from the CSV's own folder, and a ``ct`` may be a DICOM
folder. ``case`` defaults to the CT's name. ``split`` is train or test (or nothing: then a seeded split is made); cases
of one ``patient`` are never parted. Class names come from ``classes.csv`` (value,name) beside it, else from the label
maps.
"""

from __future__ import annotations

from pathlib import Path

from tapct_core.errors import UserError
from tapct_core.io.suffixes import stem_of
from tapct_core.tables import read_table

from .cases import Case, Dataset

LISTING, CLASSES = "cases.csv", "classes.csv"
SPLITS = ("", "train", "test")


def read(root: Path, labelled: bool = True) -> Dataset:
    """The cases of ROOT/cases.csv, or of the CSV that ``root`` is. Raises UserError naming the line.

    ``labelled``: every case must name a label map, as segmentation needs it.
    """
    listing = root / LISTING if root.is_dir() else root
    cases = []
    for line, row in enumerate(read_rows(listing, ("ct", "labels") if labelled else ("ct",)), start=2):
        ct, labels, split = row["ct"], row.get("labels", ""), row.get("split", "").casefold()
        if not ct or (labelled and not labels):
            raise UserError(f"{listing.name}, line {line}: {'labels' if ct else 'ct'} is empty; name the file")
        if split not in SPLITS:
            raise UserError(f"{listing.name}, line {line}: split is {split!r}; it is train, test or empty")
        folder = listing.parent
        cases.append(
            Case(
                id=row.get("case") or case_name(ct),
                ct=folder / ct,
                labels=folder / labels if labels else None,
                split=split,
                group=row.get("patient", ""),
            )
        )
    if any(case.split for case in cases) and not all(case.split for case in cases):
        raise UserError(f"{listing.name} gives some cases a split and others none; give all of them one, or none")
    return Dataset(
        listing.parent.resolve().name if listing.name == LISTING else listing.stem,
        tuple(cases),
        _classes(listing.parent / CLASSES),
        note="A folder of scans listed in a CSV.",
    )


def read_rows(path: Path, needed: tuple[str, ...], numbers: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """Rows of a CSV with a header, as :func:`tapct_core.tables.read_table`; raises UserError for none too."""
    rows = [row for _, row in read_table(path, needed, numbers)]
    if not rows:
        raise UserError(f"{path.name} lists nothing; give one line a scan")
    return rows


def _classes(path: Path) -> dict[int, str]:
    if not path.is_file():
        return {}
    try:
        named = {int(row["value"]): row["name"] for row in read_rows(path, ("value", "name"))}
    except ValueError as error:
        raise UserError(f"{path.name}: {error}; value is a whole number above 0") from None
    return {value: name for value, name in sorted(named.items()) if value != 0}


def case_name(ct: str) -> str:
    """A scan's file or folder name without its suffixes."""
    return stem_of(Path(ct))
