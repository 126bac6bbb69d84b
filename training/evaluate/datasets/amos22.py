"""AMOS22 as it is distributed (zenodo.org/records/7262581): abdominal organs, CT and MR; the CTs are used.

    ROOT/dataset.json
    ROOT/imagesTr/amos_0001.nii.gz  ROOT/labelsTr/amos_0001.nii.gz      learnt from
    ROOT/imagesVa/amos_0008.nii.gz  ROOT/labelsVa/amos_0008.nii.gz      tested on

Its readme: numbers below 500 are CT, the others MR. 200 CTs are to be learnt from and 100 are its validation set, which
has labels and is what papers report; the labels of imagesTs are not public.
"""

from __future__ import annotations

import re
from pathlib import Path

from tapct_core.errors import UserError

from ..runs.run_folder import read_json
from .cases import Case, Dataset

FIRST_MR = 500
PARTS = {"train": ("training", "imagesTr", "labelsTr"), "test": ("validation", "imagesVa", "labelsVa")}
"""Our word for a part -> its list in dataset.json, its images' folder and its labels' folder."""


def read(root: Path) -> Dataset:
    """CT cases of imagesTr ("train") and imagesVa ("test"). Raises UserError where the layout is another one.

    A case is listed when dataset.json names it or its image lies in the folder; a label map that is not there is found
    out, and named, when the case is read.
    """
    if not (root / "dataset.json").is_file():
        raise UserError(f"{root} has no dataset.json; give the folder in which AMOS22 was unpacked (often 'amos22')")
    description = read_json(root / "dataset.json")
    cases: list[Case] = []
    mr = 0
    for split, (listed, images, labels) in PARTS.items():
        for name in _names(root, description.get(listed), images):
            if _number(name) >= FIRST_MR:
                mr += 1
            else:
                case = name.removesuffix(".gz").removesuffix(".nii")
                cases.append(Case(case, root / images / name, root / labels / name, split))
    left_out = (f"{mr} MR scans (numbers from {FIRST_MR} on) are no part of the task",) if mr else ()
    if not cases:
        raise UserError(f"{root} lists no CT of AMOS22; check that imagesTr and imagesVa are there")
    return Dataset("AMOS22", tuple(cases), _classes(description), left_out, NOTE)


NOTE = (
    "AMOS22 (Ji et al. 2022, arXiv 2206.08023), CT cases only: learnt from imagesTr, tested on imagesVa, the public "
    "validation set; the labels are the challenge's."
)


def _names(root: Path, listed: object, images: str) -> list[str]:
    """File names of one part, in order: those dataset.json lists and those that lie there."""
    found = {path.name for path in (root / images).glob("*.nii*")} if (root / images).is_dir() else set()
    for entry in listed if isinstance(listed, list) else []:
        path = entry.get("image") if isinstance(entry, dict) else entry
        if isinstance(path, str) and Path(path).parent.name in (images, ""):
            found.add(Path(path).name)
    return sorted(found)


def _number(name: str) -> int:
    match = re.search(r"(\d+)(?:_0000)?\.nii(?:\.gz)?$", name)
    if match is None:
        raise UserError(f"{name} has no case number, which tells CT from MR in AMOS22; keep the names amos_NNNN.nii.gz")
    return int(match.group(1))


def _classes(description: dict) -> dict[int, str]:
    """Organ names by value; the file gives them as {"1": "spleen", ...}."""
    try:
        named = {int(value): str(name) for value, name in description["labels"].items()}
    except (KeyError, ValueError, AttributeError):
        raise UserError("dataset.json of AMOS22 names no labels; unpack it again") from None
    return {value: name for value, name in sorted(named.items()) if value != 0}
