"""The exported files, run by onnxruntime, against torch."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import fails, small_models

from refsr.errors import MissingExtraError, UsageError
from refsr.models.default import DefaultModel
from refsr.models.export import export_onnx
from refsr.restore.pipeline import encode, match, transfer


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[onnxruntime.InferenceSession]:
    """Written by a process of its own: the checks of shapes that run in tests stand in the way of tracing."""
    folder = tmp_path_factory.mktemp("onnx") / "new"
    done = subprocess.run(
        [sys.executable, "-m", "refsr", "export", "-o", folder], check=True, capture_output=True, text=True
    )
    network, descriptors = folder / "network.onnx", folder / "descriptors.onnx"
    sizes = [f"{path.stat().st_size / 2**20:.1f} MiB" for path in (network, descriptors)]
    said = done.stdout.splitlines()
    checked = r"; run at another size, it differs from the model by \de-0[4-9] at most"
    assert re.fullmatch(re.escape(f"{network}: {sizes[0]}") + checked, said[0]), said
    assert re.fullmatch(re.escape(f"{descriptors}: {sizes[1]}") + checked, said[1]), said
    assert done.stderr == ""
    return [onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in (network, descriptors)]


@pytest.mark.parametrize(("lr_px", "ref_px"), [((24, 32), (112, 80)), ((31, 57), (132, 204)), ((90, 40), (64, 300))])
def test_equals_torch_at_any_size(
    shipped: DefaultModel,
    files: list[onnxruntime.InferenceSession],
    lr_px: tuple[int, int],
    ref_px: tuple[int, int],
) -> None:
    generator = torch.Generator().manual_seed(lr_px[0])
    lr, ref = (torch.rand(1, 3, *px, generator=generator) for px in (lr_px, ref_px))
    with torch.inference_mode():
        encoded = encode(shipped, lr, [ref])
        matched = match(shipped, encoded)
        sr = transfer(shipped, matched).clamp(0, 1)
    (found,) = matched.matches
    network, descriptors = files
    (described,) = descriptors.run(None, {"image": lr.numpy()})
    assert np.abs(described - encoded.query.numpy()).max() < 1e-3
    fed = {"lr": lr, "ref": ref, "position_cells": found.position_cells, "score": found.score}
    (restored,) = network.run(None, {name: tensor.numpy() for name, tensor in fed.items()})
    assert restored.shape == (1, 3, 4 * lr_px[0], 4 * lr_px[1])
    assert np.abs(restored - sr.numpy()).max() < 1e-3


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    fails(capsys, 2, "file: cannot be made .*: choose another folder", "export", "--output", tmp_path / "file")
    with pytest.raises(UsageError, match="bicubic cannot be exported"):
        export_onnx(small_models()["bicubic"], tmp_path)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'refsr\[onnx\]'"):
        export_onnx(DefaultModel(), tmp_path)
