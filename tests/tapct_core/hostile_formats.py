"""One small file of every format that is opened, our own and other programs', and what opens it."""

from __future__ import annotations

import bz2
import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tapct_core.cli.embed import read_list
from tapct_core.cli.options import read_points
from tapct_core.embedding_state import Canvas, EmbeddingState
from tapct_core.encoders import load_encoder, save_encoder
from tapct_core.geometry import Geometry
from tapct_core.imports import read_findings
from tapct_core.io import load_ct, load_labels, save_labels
from tapct_core.io.sidecar import read_sidecar
from tapct_core.lesions import Mask, Study, Timepoint
from tapct_core.lesions.study_file import load_study, save_study, study_json
from tapct_core.preprocessing import InputSpec
from tapct_core.probe import LinearProbe
from tapct_core.store import load_features, save_features
from tapct_core.vit import VisionTransformer3D, ViTConfig
from tapct_core.volume import CTVolume, LabelMap
from tests.tapct_core.test_hostile_bombs import dicom, nifti
from tests.tapct_core.test_store import make_map

EXPLICIT, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
JPEG_LS, JPEG_2000 = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"

EMPTY = ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyTime", "ReferringPhysicianName")

Formats = dict[str, tuple[Path, Callable[[], object]]]
"""By name: the file whose bytes are changed, and what reads it."""


def formats(folder: Path) -> Formats:
    """All of them, written into ``folder``."""
    return ours(folder) | foreign(folder / "foreign")


def ours(folder: Path) -> Formats:
    """What this project writes itself, and the plain forms of what it reads."""
    features = make_map(grid=(3, 4, 4), dim=6)
    grid = Geometry.from_spacing((6, 20, 20), (2.0, 1.0, 1.0))
    values = np.random.default_rng(0).integers(0, 3, grid.shape).astype(np.uint8)
    labels = LabelMap(values, grid, names={1: "a", 2: "b"}, colours={1: (1, 2, 3)})

    nifti(folder / "a.nii", (12, 11, 10))
    (folder / "b.nii.gz").write_bytes(gzip.compress((folder / "a.nii").read_bytes()))
    for name in ("c.nrrd", "d.mha", "e.nii"):
        save_labels(labels, folder / name)
    series = dicom(folder)
    save_features(folder / "f.zarr", features)
    masks = (np.arange(features.hu.size) % 3).reshape(features.hu.shape).astype(np.uint8)
    LinearProbe.fit([(features, LabelMap(masks, features.hu_geometry))]).save(folder / "g.safetensors")
    study = Study("p", [Timepoint("t", "a.nii", "2024-01-02"), Timepoint("u", "b.nii", "2024-03-02")])
    lesion = study.add_lesion("L", "t", (1.0, 2.0, 3.0), "AB", role="target", organ="liver")
    scan = CTVolume(np.random.default_rng(0).integers(-100, 100, grid.shape).astype(np.int16), grid)
    mask = np.zeros(grid.shape, bool)
    mask[2:4, 5:9, 5:9] = True
    study.set_mask(lesion.uid, "t", Mask.from_array(mask), scan, by="AB")
    save_study(study, folder / "h.json")
    config = ViTConfig(patch_size=(2, 4, 4), img_size=(4, 8, 8), embed_dim=12, depth=1, num_heads=2)
    save_encoder(folder / "enc", VisionTransformer3D(config), InputSpec(patch_size=(2, 4, 4), img_size=(4, 8, 8)))
    (folder / "points.csv").write_text("name;x;y;z;note\nT1;-46,5;-112;-62,25;a\nT2;1;2;3,5;\n")
    (folder / "list.txt").write_text("a.nii\n# b\nc.nii.gz\n")

    def run_of():
        canvas = Canvas((2, 4, 4), 6, np.array([[0, 0, 0], [0, 2, 0]]), (2, 2, 4), blend=False)
        return EmbeddingState(canvas, folder / "state.safetensors", "key")
    state = run_of()
    state.put(np.array([0]), np.ones((1, 2, 2, 4, 6), np.float32), np.ones((1, 6), np.float32))
    state.save()

    def again(path):
        "What loads must save."
        study_json(load_study(path))

    return {
        "NIfTI": (folder / "a.nii", lambda: load_ct(folder / "a.nii")),
        "NIfTI gz": (folder / "b.nii.gz", lambda: load_ct(folder / "b.nii.gz")),
        "NIfTI labels": (folder / "e.nii", lambda: load_labels(folder / "e.nii")),
        "NRRD": (folder / "c.nrrd", lambda: load_labels(folder / "c.nrrd")),
        "MetaImage": (folder / "d.mha", lambda: load_labels(folder / "d.mha")),
        "label names": (folder / "e.labels.json", lambda: read_sidecar(folder / "e.nii")),
        "DICOM": (series / "2.dcm", lambda: load_ct(series)),
        "store description": (folder / "f.zarr" / "zarr.json", lambda: load_features(folder / "f.zarr")),
        "store chunk": (folder / "f.zarr" / "hu" / "c" / "0" / "0" / "0", lambda: load_features(folder / "f.zarr")),
        "probe": (folder / "g.safetensors", lambda: LinearProbe.load(folder / "g.safetensors")),
        "study": (folder / "h.json", lambda: again(folder / "h.json")),
        "encoder config": (folder / "enc" / "config.json", lambda: load_encoder(folder / "enc", device="cpu")),
        "encoder weights": (folder / "enc" / "model.safetensors", lambda: load_encoder(folder / "enc", device="cpu")),
        "checkpoint": (folder / "state.safetensors", run_of),
        "points": (folder / "points.csv", lambda: read_points(folder / "points.csv")),
        "list": (folder / "list.txt", lambda: read_list(folder / "list.txt")),
    }


def foreign(folder: Path) -> Formats:
    """What other programs write, in the ways in which they store it."""
    import highdicom as hd
    from pydicom import dcmread
    from pydicom.sr.codedict import codes

    from .imports.test_dicom_sr import group, in_space, length, on_image, report
    from .imports.test_rtstruct import square, structure_set
    from .io import writing

    folder.mkdir()
    rng = np.random.default_rng(1)
    hu = rng.integers(-900, 300, (4, 16, 16)).astype(np.int16)
    nrrd = writing.volume_file("nrrd", hu.T)
    head, data = nrrd.split(b"\n\n", 1)
    (folder / "gzip.nrrd").write_bytes(writing.volume_file("nrrd gzip", hu.T))
    (folder / "bzip2.nrrd").write_bytes(head.replace(b"raw", b"bzip2") + b"\n\n" + bz2.compress(data))
    (folder / "detached.nhdr").write_bytes(head + b"\ndata file: detached.raw\n")
    (folder / "detached.raw").write_bytes(data)
    (folder / "deflate.mha").write_bytes(writing.volume_file("mha deflate", hu.T))
    (folder / "detached.mhd").write_bytes(
        writing.volume_file("mha", hu.T).split(b"LOCAL\n")[0] + b"detached.raw\n"
    )
    head = nifti(folder / "plain.nii", (12, 11, 10)).read_bytes()
    with zipfile.ZipFile(folder / "scan.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scan.nii", head)
    found: Formats = {}
    syntaxes = {"JPEG-LS": JPEG_LS, "JPEG 2000": JPEG_2000, "RLE": RLE}
    large = rng.integers(0, 2000, (4, 64, 64)).astype(np.int16)
    for name, syntax in syntaxes.items():
        series = folder / name.replace(" ", "_")
        series.mkdir()
        for number in range(4):
            path = series / f"{number}.dcm"
            path.write_bytes(writing.ct_slice(large[number], number, PixelRepresentation=0, RescaleIntercept=-1024))
            image = dcmread(path)
            image.compress(syntax)
            image.save_as(path)
        found[f"DICOM {name}"] = (series / "2.dcm", lambda series=series: load_ct(series))
    (folder / "deflated").mkdir()
    deflated = dicom(folder / "deflated", b"")
    found["DICOM deflated"] = (deflated / "2.dcm", lambda: load_ct(deflated))
    images = []
    for number in range(4):
        path = folder / f"image-{number}.dcm"
        path.write_bytes(writing.ct_slice(hu[number], number, **dict.fromkeys(EMPTY, "")))
        images.append(dcmread(path))
    segment = hd.seg.SegmentDescription(
        segment_number=1, segment_label="L", segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion, algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )  # fmt: skip
    for name, kind, syntax in (("SEG", "BINARY", EXPLICIT), ("SEG RLE", "FRACTIONAL", RLE)):
        seg = hd.seg.Segmentation(
            images, hu > 0, kind, [segment], hd.UID(), 1, hd.UID(), 1, "a", "b", "c", "d", transfer_syntax_uid=syntax
        )
        seg.save_as(folder / f"{name}.dcm")
    ring = [("CLOSED_PLANAR", square(half, z)) for z in (2.5, 5.0) for half in (9, 4)]
    structure_set(folder / "RTSTRUCT.dcm", {"ring": ring})
    outline = on_image("POLYLINE", [[1, 2], [5, 6]], "1.2.3")
    report(
        folder / "SR.dcm",
        group("one", "1.2.3.4", length(("103339001", "Long axis", "SCT"), 12.5, outline)),
        group("two", "", in_space("POINT", [[1, 2, 3]], "1.2.4")),
        evidence=[("1.2.5", ["1.2.3"])],
    )
    (folder / "points.csv").write_text("name,x,y,z,timepoint,role\na,1,2,3,t,target\n")
    for name in ("gzip.nrrd", "bzip2.nrrd", "detached.nhdr", "deflate.mha", "detached.mhd", "scan.zip"):
        found[name] = (folder / name, lambda path=folder / name: load_ct(path))
    for name in ("SEG.dcm", "SEG RLE.dcm", "RTSTRUCT.dcm", "SR.dcm", "points.csv"):
        found[f"findings, {name}"] = (folder / name, lambda path=folder / name: read_findings(path))
    found["findings, label map"] = (folder.parent / "c.nrrd", lambda: read_findings(folder.parent / "c.nrrd"))
    return found
