"""Next-sentence prediction through the command line: what its results are beside, and a text too small for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

TINY = ("model.preset=tiny", "model.vocabulary=300", "model.sequence_length=64", "trainer.max_steps=2")


def test_loss_of_hidden_words_stands_beside_that_of_word_frequencies(shop: Path, command: Any, tmp_path: Path) -> None:
    given = ("pretrain", shop / "reviews.csv", "--objective", "mlm+nsp", "--out", tmp_path / "run", *TINY)
    ended = command(*given)
    assert ended.code == 0, ended.err
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results["word_frequencies"]) == {"mlm_loss"}
    cells = {line.split()[0]: line.split()[1:] for line in ended.out.splitlines() if line.strip()}
    assert cells["SCORE"] == ["MODEL", "WORD", "FREQUENCIES"]
    values = [results[key]["mlm_loss"] for key in ("dev", "word_frequencies")]
    assert cells["mlm_loss"] == [f"{value:.4f}" for value in values]
    assert cells["loss"] == [f"{results['dev']['loss']:.4f}", "-"]
    told = f"warning: the mlm_loss ({values[0]:.2f}) is "
    assert any(line.startswith(told) for line in ended.err.splitlines())


def test_nsp_alone_stands_beside_no_word_frequencies(shop: Path, command: Any, tmp_path: Path) -> None:
    ended = command("pretrain", shop / "reviews.csv", "--objective", "nsp", "--out", tmp_path / "run", *TINY)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[0].split() == ["SCORE", "MODEL"]
    assert "word_frequencies" not in json.loads((tmp_path / "run" / "results.json").read_text())


@pytest.mark.parametrize(("share", "code"), [(0.02, 3), (0.2, 0)])
def test_part_too_small_to_be_held_out_is_named_with_the_setting_that_mends_it(
    share: float, code: int, command: Any, tmp_path: Path
) -> None:
    file = tmp_path / "small.txt"
    file.write_text("".join(f"The coat number {i} is soft. It is warm, too. I like it.\n" for i in range(40)))
    settings = (*TINY, "model.vocabulary=100", f"data.dev_share={share}")
    ended = command("pretrain", file, "--objective", "nsp", "--out", tmp_path / "run", *settings)
    assert ended.code == code, ended.err
    if code:
        part = "the part held out to choose the best step, 2% of the text, is too small"
        why = "1 of 1 documents have two sentences that fit; pairs need 2 or more"
        assert ended.err.splitlines()[-2:] == [
            f"error: {file}: {part}: {why}",
            "hint: data.dev_share=0.2 holds out more; or give more text, one document a row",
        ]
