"""The pick list's codes are those of DICOM's dictionary; free detail keeps its site."""

from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes

from tapct_core.lesions.body_sites import SITES, site_of


def test_every_code_is_in_dicoms_own_dictionary():
    known = {(code.value, code.meaning) for code in (getattr(codes.SCT, name) for name in codes.SCT.dir())}
    assert set(SITES.values()) <= known
    assert len({code for code, _ in SITES.values()}) == len(SITES)


@pytest.mark.parametrize(
    ("organ", "code"), [("Liver", "10200004"), ("liver, segment 7", "10200004"), (" lung , S6", "39607008"), ("", None)]
)
def test_detail_is_free(organ, code):
    assert site_of(organ) == (None if code is None else next(one for one in SITES.values() if one[0] == code))
    assert site_of("somewhere") is None
