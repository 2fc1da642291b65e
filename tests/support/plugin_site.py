"""Distributions of plugins for tests, written to a folder of ``sys.path``: the core's beside it is the real one."""

from __future__ import annotations

import sys
from pathlib import Path

MOOD = """
import nlpkit

class Mood(nlpkit.Task):
    "Says whether a text is glad."

    name = "mood"
    score = "accuracy"

    def encode(self, example):
        features = dict(self.tokenizer(example["text"], truncation=True, max_length=self.config.max_length))
        if "label" in example:
            features["labels"] = self.config.labels.index(example["label"])
        return features

    def build_head(self, backbone):
        return nlpkit.TransformersHead("AutoModelForSequenceClassification", backbone, num_labels=2)

    def build_metrics(self):
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy

        return MetricCollection({"accuracy": MulticlassAccuracy(2, average="micro")})

    def decode(self, predictions, batch):
        return [{"label": self.config.labels[int(i)]} for i in predictions.argmax(-1)]
#more of the class

@nlpkit.hookimpl
def nlpkit_tasks():
    return [Mood]
#more
"""


class PluginSite:
    """A folder of ``sys.path`` in which distributions are put and taken away.

    Args:
        folder: exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, name: str, source: str, version: str = "0.3.0", metadata: str = "") -> Path:
        """Write a distribution of one plugin of the same name, in place of an earlier one; gives its module."""
        self.remove(name)
        about = self.folder / f"nlpkit_{name}-{version}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: nlpkit-{name}\nVersion: {version}\n{metadata}")
        (about / "entry_points.txt").write_text(f"[nlpkit]\n{name} = {name}_plugin\n")
        module = self.folder / f"{name}_plugin.py"
        module.write_text(source)
        return module

    def remove(self, name: str) -> None:
        """Take a distribution away, as pip does."""
        for about in self.folder.glob(f"nlpkit_{name}-*.dist-info"):
            for file in about.iterdir():
                file.unlink()
            about.rmdir()
        (self.folder / f"{name}_plugin.py").unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Let modules of the folder be imported anew."""
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", "")).startswith(str(self.folder)):
                del sys.modules[name]


def mood(of_class: str = "", of_module: str = "") -> str:
    """The source of a task that works, with more in its class and behind it; later definitions win."""
    return MOOD.replace("#more of the class", of_class).replace("#more", of_module)
