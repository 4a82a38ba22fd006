"""Losses that a person already has, from a log, a table or TensorBoard, as what detectors take."""

from lrpilot_controller.streams.jsonl import json_lines
from lrpilot_controller.streams.reading import BadInput, Names, Reading
from lrpilot_controller.streams.scalars import Tags, tensorboard_scalars
from lrpilot_controller.streams.table import csv_rows

__all__ = [
    "BadInput",
    "Names",
    "Reading",
    "Tags",
    "csv_rows",
    "json_lines",
    "tensorboard_scalars",
]
