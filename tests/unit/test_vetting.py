"""Weights and checkpoints that were made to do harm: refused, and nothing in them runs."""

from __future__ import annotations

import gzip
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest

from nlpkit.errors import ModelError
from nlpkit.vetting import check_weights

HALF = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def file_of(header: Any, content: bytes = bytes(16), length: int | None = None) -> bytes:
    """A safetensors file: the length of its header, the header, the numbers."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def other(**changes: Any) -> dict[str, Any]:
    """A second tensor behind HALF."""
    return {"dtype": "F32", "shape": [2], "data_offsets": [8, 16], **changes}


class Canary:
    """Runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


ATTACKS = {
    "longer header than file": file_of({"a": HALF, "b": other()}, length=1 << 40),
    "header of 200 MB": file_of(b" " * 8, length=200 << 20),
    "negative length": file_of({"a": HALF, "b": other()}, length=(1 << 64) - 1),
    "header that is no JSON": file_of(b"{" * 64),
    "nested header": file_of(b'{"a":' * 20_000),
    "overlap": file_of({"a": HALF, "b": other(data_offsets=[4, 12])}, bytes(12)),
    "two at one place": file_of({"a": HALF, "b": HALF}, bytes(8)),
    "hole": file_of({"a": HALF, "b": other(data_offsets=[12, 20])}, bytes(20)),
    "bytes behind": file_of({"a": HALF, "b": other()}, bytes(17)),
    "key twice": file_of(
        f'{{"a": {json.dumps(HALF)}, "a": {json.dumps(other())}}}'.encode(),
    ),
    "shape for more bytes": file_of({"a": HALF, "b": other(shape=[3])}),
    "dtype for more bytes": file_of({"a": HALF, "b": other(dtype="F64")}),
    "unknown dtype": file_of({"a": HALF, "b": other(dtype="PICKLE")}),
    "negative shape": file_of({"a": HALF, "b": other(shape=[-2, -1])}),
    "shape that overflows": file_of({"a": HALF, "b": other(shape=[1 << 62, 1 << 62])}),
    "offsets backwards": file_of({"a": HALF, "b": other(data_offsets=[16, 8])}),
}


def test_file_of_two_tensors_is_read(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(file_of({"a": HALF, "b": other()}))
    assert check_weights(tmp_path) == 4


@pytest.mark.parametrize("attack", ATTACKS)
def test_weights_that_were_tampered_with_are_refused(attack: str, tmp_path: Path) -> None:
    """C10."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(ATTACKS[attack])
    with pytest.raises(ModelError) as caught:
        check_weights(tmp_path)
    assert caught.value.exit_code == 4
    assert caught.value.message.startswith(f"{path}: damaged or no safetensors file (")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "optimizer.pt"])
def test_compressed_pickle_never_runs(name: str, tmp_path: Path) -> None:
    """C06; others are in test_handover.py and e2e/test_bad_input.py."""
    (tmp_path / name).write_bytes(gzip.compress(pickle.dumps(Canary(tmp_path / "canary"))))
    with pytest.raises(ModelError):
        check_weights(tmp_path)
    assert not (tmp_path / "canary").exists()
