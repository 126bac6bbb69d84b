"""Self-supervised 3D pretraining of CT encoders: from a folder of scans to a folder that ``tapct`` embeds with.

Three commands: ``python -m training.ingest``, ``python -m training.pretrain``, ``python -m training.export``;
a fourth, ``python -m training.monitor``, draws what a run has done. docs/pretraining.md walks through them.
``data`` is what is learned from, ``network`` what learns, ``losses`` what it is asked, ``run`` how it goes on.
"""
