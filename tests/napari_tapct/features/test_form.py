"""Encoder, device, grid and overlap as a form: what scripts set, and what a screen reader calls its fields."""

from __future__ import annotations

from napari_tapct.features.form import EncoderForm


def test_every_field_is_called_what_its_label_says(qtbot):
    form = EncoderForm()
    qtbot.addWidget(form.native)
    assert [field.native.accessibleName() for field in form if field is not form.folder] == [
        "Encoder", "Device", "Grid", "Overlap",
    ]  # fmt: skip
    assert form.folder.text == "From a folder …"


def test_a_script_sets_the_fields_as_a_person_does(qtbot):
    form = EncoderForm()
    qtbot.addWidget(form.native)
    heard = []
    form.changed.connect(lambda *_: heard.append(form.choice))
    form.device.value, form.plan.value, form.overlap.value = "cpu", "spacing", 0.5
    assert (heard[-1].device, heard[-1].plan, heard[-1].overlap) == ("cpu", "spacing", 0.5)
