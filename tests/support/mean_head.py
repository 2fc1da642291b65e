"""A plugin that brings one head: the mean of all tokens, and a layer over it."""

from __future__ import annotations

PLUGIN = """
import nlpkit

@nlpkit.hookimpl
def nlpkit_heads():
    def mean(task, backbone):
        import torch

        class Mean(nlpkit.Head):
            def __init__(self):
                super().__init__()
                self.output = torch.nn.Linear(backbone.hidden_size, len(task.config.labels))

            def forward(self, hidden, batch):
                mask = batch["attention_mask"].unsqueeze(-1)
                return self.output((hidden * mask).sum(1) / mask.sum(1))

        return Mean()

    return {"mean": mean}
"""
