"""Question answering: the words of a context that answer a question."""

from __future__ import annotations

from typing import Any, ClassVar

from nlpkit import Batch, DataError, Example, Features, Field, Task, TaskConfig, hookimpl


class QuestionAnswering(Task[TaskConfig]):
    """Cut the answer to a question out of a context that has it word for word."""

    name, score = "question-answering", "f1"
    fields: ClassVar = {name: Field((name,), required=name != "answer") for name in ("context", "question", "answer")}
    padding: ClassVar = {**Task.padding, "span_mask": 0, "starts": 0, "ends": 0}

    def encode(self, example: Example) -> Features:
        """Token ids; where each token of the context starts and ends in it; first and last token of the answer."""
        both, longest = (example["question"], example["context"]), self.config.max_length
        ids = self.tokenizer(*both, truncation="longest_first", max_length=longest, return_offsets_mapping=True)
        spans = [s if n == 1 else (0, 0) for n, s in zip(ids.sequence_ids(), ids.pop("offset_mapping"), strict=True)]
        starts, ends = map(list, zip(*spans, strict=True))
        features: Features = {**ids, "span_mask": [int(end > 0) for end in ends], "starts": starts, "ends": ends}
        if answer := (example.get("answer") or "").strip():
            if (begin := example["context"].find(answer)) < 0:
                raise DataError(f"{example.where}: the context has no '{answer}'", "copy the answer from its context")
            tokens = [ids.char_to_token(at, sequence_index=1) for at in (begin, begin + len(answer) - 1)]
            features["labels"] = [-100, -100] if None in tokens else tokens  # cut off: nothing to learn from
        return features

    def build_head(self, backbone: Any) -> Any:
        """A head that points at the first and the last token; imported here, so that nlpkit starts without torch."""
        from nlpkit import SpanHead

        return SpanHead(backbone, longest=30)

    def build_metrics(self) -> Any:
        """F1 of tokens, and the share of answers with exactly the right ones."""
        from torchmetrics import MetricCollection, classification

        return MetricCollection({"f1": classification.BinaryF1Score(), "exact": classification.MulticlassExactMatch(2)})

    def compare(self, predictions: Any, batch: Batch) -> tuple[Any, ...]:
        """Which tokens are the answer's, as found and in truth (B, L); an answer that was cut off has none."""
        place = batch["attention_mask"].cumsum(1) - 1  # (B, L): 0, 1, 2, ...
        return tuple((s[:, :1] <= place) & (place <= s[:, 1:]) for s in (predictions[0], batch["labels"]))

    def decode(self, predictions: Any, batch: Batch) -> list[dict[str, Any]]:
        """Where each answer stands in its context, in characters, and up to which it was read."""
        rows = zip(*(values.tolist() for values in (*predictions, batch["starts"], batch["ends"])), strict=True)
        return [{"start": start[a], "end": end[b], "score": p, "read": max(end)} for (a, b), p, start, end in rows]

    def complete(self, answer: dict[str, Any], example: Example) -> dict[str, Any]:
        """The answer in the very letters of its context."""
        return {"answer": example["context"][answer["start"] : answer["end"]], **answer}


@hookimpl
def nlpkit_tasks() -> list[type[Task[Any]]]:
    return [QuestionAnswering]
