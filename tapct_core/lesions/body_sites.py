"""Where lesions lie, as a pick list with SNOMED CT codes: those of DICOM's own dictionary (PS3.16, DCMR)."""

from __future__ import annotations

SITES: dict[str, tuple[str, str]] = {
    "adrenal gland": ("23451007", "Adrenal gland"),
    "axillary lymph node": ("68171009", "Axillary lymph node"),
    "bladder": ("89837001", "Bladder"),
    "bone": ("272673000", "Bone"),
    "brain": ("12738006", "Brain"),
    "breast": ("76752008", "Breast"),
    "chest wall": ("78904004", "Chest wall"),
    "colon": ("71854001", "Colon"),
    "duodenum": ("38848004", "Duodenum"),
    "esophagus": ("32849002", "Esophagus"),
    "femur": ("71341001", "Femur"),
    "gallbladder": ("28231008", "Gallbladder"),
    "heart": ("80891009", "Heart"),
    "humerus": ("85050009", "Humerus"),
    "inguinal lymph node": ("8928004", "inguinal lymph node"),
    "kidney": ("64033007", "Kidney"),
    "liver": ("10200004", "Liver"),
    "lung": ("39607008", "Lung"),
    "lymph node": ("59441001", "Lymph Node"),
    "mediastinal lymph node": ("62683002", "mediastinal lymph node"),
    "mediastinum": ("72410000", "Mediastinum"),
    "muscle": ("71616004", "Muscle"),
    "neck": ("45048000", "Neck"),
    "omentum": ("27398004", "Omentum"),
    "ovary": ("15497006", "Ovary"),
    "pancreas": ("15776009", "Pancreas"),
    "pelvis": ("816092008", "Pelvis"),
    "pleura": ("3120008", "Pleura"),
    "prostate": ("41216001", "Prostate"),
    "rectum": ("34402009", "Rectum"),
    "retroperitoneum": ("82849001", "Retroperitoneum"),
    "rib": ("113197003", "Rib"),
    "sacrum": ("54735007", "Sacrum"),
    "skin": ("39937001", "Skin"),
    "small intestine": ("30315005", "Small intestine"),
    "spleen": ("78961009", "Spleen"),
    "sternum": ("56873002", "Sternum"),
    "stomach": ("69695003", "Stomach"),
    "testis": ("40689003", "Testis"),
    "ureter": ("87953007", "Ureter"),
    "uterus": ("35039007", "Uterus"),
    "vertebra": ("51282000", "Vertebra"),
}
"""By what the pick list says: the code and its meaning."""


def site_of(organ: str) -> tuple[str, str] | None:
    """Code and meaning of a location such as "liver" or "liver, segment 7"; what follows a comma is free detail."""
    return SITES.get(organ.partition(",")[0].strip().casefold())
