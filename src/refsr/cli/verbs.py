"""Verbs: what `refsr --help` lists, and how each is imported when it is asked for, since torch takes seconds."""

import inspect
from collections.abc import Callable
from typing import Final

from cyclopts import App

VERBS: Final = {
    "upscale": ("enlarge", "Enlarge a picture, or sharpen it, with detail from sharp references."),
    "batch": (
        "batch",
        "Enlarge many photos in parallel; the same command resumes a run that was broken off.\n\n"
        "The exit code is 0 if all jobs are done, and 3 if some failed; failures are listed with their reasons.",
    ),
    "video": (
        "video",
        "Enlarge a video, with real detail from sharp stills of the same things; the sound is copied.",
    ),
    "serve": (
        "serve",
        "Serve a web page on which photos are dropped, enlarged, compared and downloaded; it needs no internet.",
    ),
    "pairs": ("pairs", "Build a test set and a training set of inputs and references from a folder of photos."),
    "triples": ("pairs", "Find, register and write a blurry, a sharp and another photo of each place."),
    "train": (
        "train",
        "Train a model by a recipe; with the same --output, continue from the last checkpoint.\n\n"
        "Every setting of the recipe is also a flag, such as --rec.steps 1000 or --default.width 64.",
    ),
    "bench": ("bench", "Measure models on data sets, in a way that others can reproduce."),
    "models": ("weights_files", "List the models."),
    "convert": ("weights_files", "Convert the official weights of SRNTT (ZZUTK/SRNTT), or of its VGG19."),
    "export": (
        "weights_files",
        "Export the default model as ONNX: a file for the network and one for the descriptors.",
    ),
    "demo": (
        "demo",
        "Restore a bundled sample, and write the pictures.\n\n"
        "The sample's truth is blurred, and restored without and with the reference.",
    ),
}
"""File in this folder, and description, by verb; the list shows the first line of it."""


def register_verbs(app: App) -> None:
    """Add all verbs to the command line; none is imported."""
    for name, (file, description) in VERBS.items():
        app.command(f"refsr.cli.{file}:{name}", name=name, help=description)


def verb(function: Callable[..., object]) -> App:
    """The verb that a function does; the examples in its docstring end the help."""
    examples = (inspect.getdoc(function) or "").partition("Examples:\n")[2]
    found = App(name=function.__name__, help_epilogue=f"**Examples**\n\n{examples}", help_format="markdown")
    found.default(function)
    return found
