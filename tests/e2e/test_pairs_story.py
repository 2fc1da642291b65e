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
    assert cells["SCORE"] == ["MODEL", "WORD", "FREQUENCIES", "CHANCE"]
    values = [results[key]["mlm_loss"] for key in ("dev", "word_frequencies")]
    assert cells["mlm_loss"] == [*(f"{value:.4f}" for value in values), "-"]
    assert cells["loss"] == [f"{results['dev']['loss']:.4f}", "-", "-"]
    assert results["chance"] == {"nsp_loss": pytest.approx(0.693147, abs=1e-6), "nsp_accuracy": 0.5}
    assert cells["nsp_loss"] == [f"{results['dev']['nsp_loss']:.4f}", "-", "0.6931"]
    assert cells["nsp_accuracy"] == [f"{results['dev']['nsp_accuracy']:.4f}", "-", "0.5000"]
    told = f"warning: the mlm_loss ({values[0]:.2f}) is "
    assert any(line.startswith(told) for line in ended.err.splitlines())


def test_nsp_stands_beside_chance_and_says_that_it_has_learnt_little(shop: Path, command: Any, tmp_path: Path) -> None:
    ended = command("pretrain", shop / "reviews.csv", "--objective", "nsp", "--out", tmp_path / "run", *TINY)
    assert ended.code == 0, ended.err
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert "word_frequencies" not in results
    dev = {name: f"{value:.4f}" for name, value in results["dev"].items()}
    cells = [line.split() for line in ended.out.splitlines()[:3]]
    assert cells == [
        ["SCORE", "MODEL", "CHANCE"],
        ["accuracy", dev["accuracy"], "0.5000"],
        ["loss", dev["loss"], "0.6931"],
    ]
    loss = results["dev"]["loss"]
    assert loss > 0.643147  # after two steps
    told = f"the loss ({loss:.2f}) is {'hardly' if loss < 0.693147 else 'not'} below that of chance (0.69)"
    why = "the model has learnt little of what follows what; train longer, or on more text"
    assert f"warning: {told}: {why}" in ended.err.splitlines()


@pytest.mark.parametrize("watched", [True, False])
def test_text_without_pairs_is_named_with_what_mends_it(
    watched: bool, shop: Path, command: Any, tmp_path: Path
) -> None:
    file = tmp_path / "general.txt"
    file.write_text("".join(f"the coat number {i} is soft and warm\n" for i in range(200)))
    texts = (shop / "reviews.csv", "--watch", file) if watched else (file,)
    settings = (*TINY, "model.vocabulary=100")
    ended = command("pretrain", *texts, "--objective", "mlm+nsp", "--out", tmp_path / "run", *settings)
    assert ended.code == 3, ended.err
    found, role = "documents have two sentences that fit; pairs need 2 or more", " (--watch)" if watched else ""
    leave_out = "leave --watch out, or watch another text, with documents of several sentences"
    hint = leave_out if watched else "use --objective mlm for texts of one sentence each"
    assert ended.err.splitlines()[-2:] == [
        f"error: {file}{role}: 0 of {200 if watched else 196} {found}",
        f"hint: {hint}",
    ]


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
