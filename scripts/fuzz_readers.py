"""Coverage-guided fuzzing of all that reads files of strangers: pictures, weights, lists.

    python scripts/fuzz_readers.py -runs=10000 -max_len=4096      # options of libFuzzer; needs `pip install atheris`

Every input must end in a result or in an error of ours, within five seconds.
"""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["refsr", "PIL"]):
    from refsr.batch.jobs import JobOptions, read_jobs
    from refsr.bench.datasets import open_dataset
    from refsr.errors import RefSRError
    from refsr.io.photo import as_photo
    from refsr.io.weights import read_weights

FOLDER = Path(tempfile.mkdtemp(prefix="refsr-fuzz-"))
READERS = (
    (".png", as_photo),
    (".jpg", as_photo),
    (".tif", as_photo),
    (".webp", as_photo),
    (".safetensors", read_weights),
    (".jsonl", open_dataset),
    (".csv", lambda path: read_jobs(path, JobOptions(), FOLDER / "out")),
)


def read_one(data: bytes) -> None:
    """The first byte chooses the reader."""
    if not data:
        return
    suffix, read = READERS[data[0] % len(READERS)]
    path = FOLDER / f"input{suffix}"
    path.write_bytes(data[1:])
    with suppress(RefSRError):
        read(path)


def _seeds() -> Path:
    """A whole picture of each kind to begin with."""
    from PIL import Image

    folder = FOLDER / "seeds"
    folder.mkdir()
    for number, (suffix, _) in enumerate(READERS[:4]):
        picture = FOLDER / f"seed{suffix}"
        Image.linear_gradient("L").resize((9, 7)).convert("RGB").save(picture)
        (folder / str(number)).write_bytes(bytes([number]) + picture.read_bytes())
    return folder


if __name__ == "__main__":
    atheris.Setup([*sys.argv, "-timeout=5", str(_seeds())], read_one)
    atheris.Fuzz()
