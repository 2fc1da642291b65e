"""What the task reads: texts without a label, and texts that nobody thought of."""

from __future__ import annotations

import json

from nlpkit.task import Example
from nlpkit.testing.alike import apart, difference
from nlpkit.testing.check import Finding, check, described, require
from nlpkit.testing.under_test import TaskUnderTest

_SAME = 1e-7  # by how much predictions from the very same ids may differ
ODD_TEXTS = {
    "an empty text": "",
    "only spaces": " \t\n\u00a0",
    "emoji": "🙂🙃👩‍🚀",
    "combining marks": "e\u0301\u0327\u200b a\u0308\u0323",
    "right to left": "שלום עולם",
    "10,000 characters": "word " * 2000,
    "one word of 10,000 characters": "a" * 10_000,
}


@check("Texts to be predicted have no label; `nlpkit predict` would end in a traceback, or know the answer beforehand.")
def encodes_without_label(it: TaskUnderTest) -> None:
    """New texts have no label, the same input ids, and the same answers."""
    optional = [name for name, field in it.task.fields.items() if not field.required]
    missing = f"without {' and '.join(optional) or 'a label'}"
    bare = it.nudged().bare()
    for row, example in enumerate(bare):
        try:
            ids = it.task.encode(example)["input_ids"]
        except Exception as error:
            raise Finding(
                f"{it.named(row)} {missing}: {described(error)}",
                'add labels only where there is one: if example.get("label") is not None',
            ) from error
        same = ids == it.task.encode(it.examples[row])["input_ids"]
        require(same, f"{it.named(row)} has other input ids {missing}", "let no label reach the input ids")
    try:
        answers = it.answers(it.batch_of(bare))
    except Exception as error:
        raise Finding(
            f"predicting {missing}: {described(error)}",
            "read labels from the batch in loss and compare alone, not in forward, predict or decode",
        ) from error
    batch = it.batch()
    if all(asked is part for part, asked in it.task.as_predicted(batch)):
        pair = (it.predictions(some, len(bare)) for some in (batch, it.batch_of(bare)))
        leaks = (apart(with_label, without, _SAME) for with_label, without in zip(*pair, strict=True))
        other = next(filter(None, leaks), "") or difference(it.answers(batch), answers)
        require(not other, f"with and {missing} {other}", "let no label reach what the head predicts from")


@check(
    "Such texts are in every file of users; one of them would end the prediction of all.",
    needs=("encodes_without_label", "answers_are_json"),
)
def takes_odd_texts(it: TaskUnderTest) -> None:
    """Empty, blank, emoji, combining, right-to-left and very long texts get one answer each, alone and together."""
    usual = it.bare()[0]
    for field in (name for name, f in it.task.fields.items() if f.required and not f.structured):
        odd = {kind: Example({**usual, field: text}) for kind, text in ODD_TEXTS.items()}
        for kind, example in odd.items():
            _check_answered(it, [example], f"{kind} as '{field}'")
        _check_answered(it, list(odd.values()), f"all of {', '.join(odd)} in one batch as '{field}'")


def _check_answered(it: TaskUnderTest, examples: list[Example], what: str) -> None:
    advice = "cut texts to config.max_length in encode, and let one without a token have an answer, too"
    try:
        answers = it.answers(it.batch_of(examples))
        json.dumps(answers, allow_nan=False)
    except Exception as error:
        raise Finding(f"{what}: {described(error)}", advice) from error
    require(len(answers) == len(examples), f"{what}: {len(answers)} answers for {len(examples)} texts", advice)
