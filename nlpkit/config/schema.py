"""Every setting of a run with its default, range and explanation; the only place where defaults are written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from nlpkit.task import TaskConfig


def number(
    default: float | int | None,
    *,
    above: float | None = None,
    below: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Any:
    """Declare a dataclass field for a number that has limits; values outside them are refused with the rest.

    Args:
        default: the value without a word from the user.
        above: the value must be greater than this.
        below: the value must be smaller than this.
        at_least: the smallest value.
        at_most: the greatest value.
    """
    limits = {"above": above, "at_least": at_least, "below": below, "at_most": at_most}
    return field(default=default, metadata={name: limit for name, limit in limits.items() if limit is not None})


@dataclass
class DataConfig:
    """How files are read and divided."""

    columns: dict[str, str] = field(default_factory=dict)
    """Column of each field of the task; data.text=COLUMN is short for data.columns.text=COLUMN. Empty: guessed."""
    dev_share: float = number(0.15, above=0, below=1)
    """Share of the training data that is held out to choose the best checkpoint, where no dev file is given."""
    group: str = ""
    """Column whose rows stay together when the data is divided (a customer, a document); empty: none."""
    control: list[str] = field(default_factory=list)
    """Columns whose values stand before each text of clm, so that generate can be asked for them; empty: none."""
    reader: str = ""
    """Name of a reader that a plugin adds (``nlpkit plugins doctor`` lists them: datasets); empty: tables and text."""
    documents: Literal["auto", "line", "paragraph", "file"] = "auto"
    """What of a txt is a document in pre-training; auto: the file if its lines are wrapped as in books, else a line."""
    encoding: str = ""
    """Encoding of the files; empty: detected."""
    delimiter: str = ""
    """Character between two columns; empty: detected."""
    errors: Literal["strict", "replace"] = "strict"
    """What to do with bytes that are no text: stop and name the line, or replace and count them."""


@dataclass
class ModelConfig:
    """The backbone and tokenizer that are made when no model is handed over by --from."""

    preset: Literal["tiny", "mini", "small", "base"] = "mini"
    """Size of the backbone."""
    family: Literal["bert", "modernbert", "gpt2", "llama", "t5", "m2m100"] = "modernbert"
    """Architecture: bert and modernbert read both ways, gpt2 and llama forwards and generate, t5 and m2m100 do both."""
    tokenizer: Literal["wordpiece", "bpe", "unigram"] = "wordpiece"
    """Kind of tokenizer that is trained on the text."""
    lowercase: bool = True
    """Whether the tokenizer takes upper and lower case as one."""
    vocabulary: int = number(8000, at_least=100, at_most=1_000_000)
    """Number of tokens in the trained tokenizer, at most."""
    sequence_length: int = number(256, at_least=8, at_most=65_536)
    """Longest input of the backbone, in tokens."""
    local_attention: int = number(16, at_least=0)
    """Tokens that every other layer of a modernbert sees, half of them on each side; 0: all layers see all tokens."""
    embeddings: Literal["lsa", "random"] = "lsa"
    """What pre-training starts a new model's embeddings from: lsa, words of the same texts alike, or random numbers."""
    dropout: float | None = number(None, at_least=0, below=1)
    """Share of activations that are dropped in training; none: what the stage or the model says."""


@dataclass
class OptimConfig:
    """How weights are changed."""

    name: Literal["adamw", "muon"] = "adamw"
    """Optimiser; muon takes the matrices of layers and leaves the rest to adamw."""
    learning_rate: float | None = number(None, above=0)
    """Highest rate of adamw; none: chosen for the stage, the strategy and the size of the model."""
    muon_learning_rate: float = number(0.02, above=0)
    """Highest rate of muon."""
    weight_decay: float = number(0.01, at_least=0)
    """Decoupled weight decay of matrices; biases and norms have none."""
    warmup: float = number(0.1, at_least=0, below=1)
    """Share of all steps in which the rate rises from zero."""
    schedule: Literal["linear", "cosine", "wsd", "inverse_sqrt", "constant"] = "linear"
    """How the rate falls after the warm-up; wsd stays, and falls in the last two fifths."""
    average: int = number(0, at_least=0)
    """Steps over which weights are averaged (EMA); the average is scored and kept. 0: the weights as they are."""
    layer_decay: float = number(0.9, above=0, at_most=1)
    """With strategy=layerwise: the rate of a layer as a share of that of the layer above it."""
    head_learning_rate: float | None = number(None, above=0)
    """Highest rate of the head; none: that of the body, 1e-3 with strategy=freeze and strategy=lora, and that of a new
    model for a new decoder behind a trained encoder."""
    clip: float = number(1.0, at_least=0)
    """Longest gradient, as a norm; 0: not clipped."""


@dataclass
class TrainerConfig:
    """How long and on what."""

    max_epochs: int | None = number(None, at_least=1)
    """Passes over the data; none: chosen for the stage and the size of the data."""
    max_steps: int | None = number(None, at_least=1)
    """Optimiser steps, less a few if validations would else not be equally far apart; none: as the epochs have."""
    batch_tokens: int | None = number(None, at_least=1)
    """Tokens in a batch of all processes together, padding included; none: chosen for the stage."""
    batch_size: int | None = number(None, at_least=1)
    """Examples in a batch, at most; none: as many as batch_tokens holds."""
    accumulate: int = number(1, at_least=1)
    """Batches for one optimiser step."""
    validations_per_epoch: int = number(2, at_least=1)
    """How often the dev part is scored in an epoch."""
    patience: int = number(4, at_least=0)
    """Validations without a better score or a lower loss after which training stops; 0: never."""
    precision: Literal["auto", "32", "bf16-mixed"] = "auto"
    """Number format of the computation; auto: bf16-mixed on a GPU that has it, 32 on a CPU (see docs/results.md)."""
    compile: bool = False
    """Whether layers run as compiled code (torch.compile): for large models on a GPU; needs a C compiler."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Kind of device; auto: a GPU if there is one."""
    devices: int = number(1, at_least=1)
    """GPUs, or processes on CPUs, that share each batch (DDP), on each machine; see docs/how-to/devices.md."""
    nodes: int = number(1, at_least=1)
    """Machines; more than one, or a script of your own with several devices, is started by torchrun or srun."""
    threads: int = number(0, at_least=0)
    """CPU threads; 0: what torch chooses."""
    workers: int = number(0, at_least=0, at_most=64)
    """Processes that make batches ahead; 0: the training process makes each. The run is the same, bit for bit."""
    minutes: float = number(0.0, at_least=0)
    """Minutes of training, all parts of a resumed run together, after which it is saved and ends as if its last step
    were done; 0: no limit."""
    callbacks: list[str] = field(default_factory=list)
    """Callbacks of Lightning by the names of their classes, and your own as module:Class; made without arguments."""
    logger: list[Literal["csv", "tensorboard", "wandb", "mlflow"]] = field(default_factory=list)
    """Loggers beside metrics.jsonl, which is always written: csv writes metrics.csv, the others are extras."""
    lightning: dict[str, bool | int | float | str | None] = field(default_factory=dict)
    """Further arguments of Lightning's Trainer; trainer.profiler=simple is trainer.lightning.profiler=simple."""


@dataclass
class CheckpointConfig:
    """When the state of a run is saved."""

    every_steps: int = number(0, at_least=0)
    """Optimiser steps between two checkpoints; 0: at every validation and every 10 minutes."""


@dataclass
class RunConfig:
    """Everything that decides what a run does."""

    task: TaskConfig = field(default_factory=TaskConfig)
    """Settings of the task or objective."""
    data: DataConfig = field(default_factory=DataConfig)
    """How files are read and divided."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The backbone and tokenizer that are made when no model is handed over by --from."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """How weights are changed."""
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    """How long and on what."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """When the state of a run is saved."""
    strategy: Literal["full", "layerwise", "upper", "freeze", "lora"] = "full"
    """Which weights learn: all, all with smaller rates near the input, all above the lower third of the layers, the
    head alone, or added LoRA matrices."""
    seed: int = number(0, at_least=0, at_most=2**32 - 1)
    """Start of every random choice."""
