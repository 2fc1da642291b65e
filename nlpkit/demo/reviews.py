"""Reviews of a shop that does not exist, put together from the hand-written clauses in ``clauses.toml``."""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

LABELS = ("positive", "negative")

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"[\w'’]+")


@dataclass(frozen=True)
class Review:
    """One review and what it says.

    Args:
        product: the name in the shop.
        text: one to eight sentences, sometimes with a title or on several lines.
        sentiment: ``positive`` or ``negative``, whichever most of its clauses are.
    """

    product: str
    text: str
    sentiment: str


class _Unit(NamedTuple):
    text: str
    side: str  # a label; "" for a clause that stays a sentence of its own
    joins: bool = False  # goes into the sentence before it


@cache
def clauses() -> dict[str, Any]:
    """Read the inventory of clauses that is shipped with nlpkit."""
    return tomllib.loads(files("nlpkit.demo").joinpath("clauses.toml").read_text(encoding="utf-8"))


def generate(rng: random.Random, seen: set[str]) -> Iterator[Review]:
    """Yield reviews without end, each label by the toss of a coin, no text twice.

    Args:
        rng: decides everything; equal seeds give equal reviews.
        seen: folded texts that must not come again; new ones are added.
    """
    while True:
        review = _Writer(rng).write(rng.choice(LABELS))
        folded = " ".join(review.text.casefold().split())
        if folded not in seen:
            seen.add(folded)
            yield review


class _Writer:
    """One customer with one product: what is bought, by whom, for where, stays the same within a review."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.inventory = clauses()
        slots = self.inventory["slots"]
        self.product = rng.choice(self.inventory["products"])
        colour, other = rng.sample(slots["colour"], 2)
        self.fixed = {
            **rng.choice(self.inventory["people"]),
            "product": self.product["noun"],
            "place": rng.choice(slots["room" if self.product.get("stays") else "place"]),
            "colour": colour,
            "other": other,
            "price": rng.choice(slots["price"]),
            "owned": rng.choice(slots["owned"]),
        }

    def write(self, label: str) -> Review:
        """Write a review in which the clauses of ``label`` outnumber the others."""
        units = self._argue(label)
        head = ""
        if self.rng.random() < 0.12:
            head = self._fill(self.rng.choice(self.inventory["titles"][label]))
        elif self.rng.random() < 0.6:
            units.insert(0, _Unit(self._pick("openings", "clauses"), ""))
        if self.rng.random() < 0.3:
            places = [place for place in range(1, len(units) + 1) if place == len(units) or not units[place].joins]
            units.insert(self.rng.choice(places), _Unit(self._pick("asides", "clauses"), ""))
        text = self._style(units, label)
        return Review(self.product["name"], f"{head}\n{text}" if head else text, label)

    def _argue(self, label: str) -> list[_Unit]:
        """Choose the clauses with an opinion, and their order."""
        rng = self.rng
        against = LABELS[1 - LABELS.index(label)]
        strong = rng.choices((1, 2, 3), (2, 4, 3))[0]
        verdict = rng.random() < 0.35
        most = min(2, strong + verdict - 1)
        weak = rng.randint(1, most) if most and rng.random() < 0.3 else 0
        own, general = self.product["facets"], self.inventory["general"]
        against_it = self._facets(weak, own, [name for name in general["facets"] if name not in general["decisive"]])
        for_it = self._facets(strong, own, general["facets"], taken=against_it)
        major = [_Unit(self._facet(name, label), label) for name in for_it]
        minor = [_Unit(self._facet(name, against), against) for name in against_it]
        units = self._mix(major, minor) if minor else self._lead_in(major)
        if verdict:
            units.append(_Unit(self._pick("verdicts", label), ""))
        return units

    def _mix(self, major: list[_Unit], minor: list[_Unit]) -> list[_Unit]:
        """Set the weaker side after the stronger one, or before it, with words that turn the argument."""
        rng = self.rng
        first, second = (minor, major) if rng.random() < 0.6 else (major, minor)
        turn, *rest = second
        way = rng.random()
        if way < 0.45 and " but " not in f"{first[-1].text} {turn.text}":
            turn = turn._replace(text=f"but {turn.text}", joins=True)
        elif way < 0.65:
            turn = turn._replace(text=f"{rng.choice(self.inventory['contrasts']['starts'])} {turn.text}")
        elif way < 0.85 and second is minor:
            turn = turn._replace(text=f"{rng.choice(self.inventory['leads'][turn.side])} {turn.text}")
        return [*first, turn, *rest]

    def _lead_in(self, units: list[_Unit]) -> list[_Unit]:
        """Begin with a hope that the first clause disappoints, or a worry that it dispels."""
        if self.rng.random() >= 0.22:
            return units
        first, *rest = units
        lead = self._pick("worries" if first.side == "positive" else "hopes", "clauses")
        return [first._replace(text=f"{lead} {first.text}"), *rest]

    def _facets(self, count: int, own: Sequence[str], general: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
        """Choose what to talk about: rather the product's own facets than those of any parcel."""
        chosen: list[str] = []
        while len(chosen) < count:
            name = self.rng.choice(own if self.rng.random() < 0.6 else general)
            if name not in chosen and name not in taken:
                chosen.append(name)
        return chosen

    def _facet(self, name: str, side: str) -> str:
        return self._fill(self.rng.choice(self.inventory["facets"][name][side]))

    def _pick(self, section: str, key: str) -> str:
        return self._fill(self.rng.choice(self.inventory[section][key]))

    def _fill(self, clause: str) -> str:
        """Take one of each ``[a|b]`` and fill each ``{slot}``."""
        slots = self.inventory["slots"]
        plain = _CHOICE.sub(lambda match: self.rng.choice(match[1].split("|")), clause)
        filled = _SLOT.sub(lambda match: self.fixed.get(match[1]) or self.rng.choice(slots[match[1]]), plain)
        noun = self.fixed["product"]
        if noun[0] in "aeiou":
            filled = filled.replace(f" a {noun}", f" an {noun}")
        return " ".join(filled.split())

    def _style(self, units: Sequence[_Unit], label: str) -> str:
        """Turn clauses into lines as this customer would type them."""
        rng = self.rng
        style = rng.choices(("plain", "keen", "dots", "lower", "bare"), (62, 14, 7, 11, 6))[0]
        sentences = [self._sentence(text, style) for text in self._join(units)]
        layout = rng.random()
        gap = "\n" if layout < 0.07 else "\n\n" if layout < 0.1 else " "
        text = gap.join(sentences)
        text = self._misspell(text) if rng.random() < 0.18 else text
        if rng.random() < 0.1:
            text = text.replace("'", "’")
        if style == "lower":
            text = text.lower()
        if style == "bare":
            text = text.rstrip(".")
        return self._decorate(text, label)

    def _join(self, units: Sequence[_Unit]) -> list[str]:
        """Put clauses together where that makes one sentence."""
        texts: list[str] = []
        side = ""
        for unit in units:
            short = (
                bool(texts) and len(texts[-1]) + len(unit.text) < 90 and not set(",:!?") & set(texts[-1] + unit.text)
            )
            if texts and unit.joins:
                texts[-1] += f", {unit.text}"
            elif short and side and unit.side == side and self.rng.random() < 0.3:
                texts[-1] += f" and {unit.text}"
            else:
                texts.append(unit.text)
            side = unit.side
        return texts

    def _sentence(self, text: str, style: str) -> str:
        end = "" if text[-1] in "!?" else "."
        if style == "keen" and self.rng.random() < 0.5:
            end = self.rng.choice(("!", "!!")) if end else ""
        if style == "dots" and end:
            end = self.rng.choice(("...", "…", "."))
        first = 1 if text[0] == '"' else 0
        return text[: first + 1].upper() + text[first + 1 :] + end

    def _misspell(self, text: str) -> str:
        """Spell one or two words as hurried people do."""
        table = self.inventory["spelling"]
        hits = [match for match in _WORD.finditer(text) if match[0] in table]
        for match in sorted(self.rng.sample(hits, min(len(hits), self.rng.randint(1, 2))), key=lambda m: -m.start()):
            text = text[: match.start()] + table[match[0]] + text[match.end() :]
        return text

    def _decorate(self, text: str, label: str) -> str:
        """Add an emoji now and then; some of them say nothing about the label."""
        chance = self.rng.random()
        if chance < 0.06:
            return f"{text} {self.rng.choice(self.inventory['emoji'][label])}"
        if chance < 0.14:
            return f"{text} {self.rng.choice(self.inventory['emoji']['either'])}"
        return text
