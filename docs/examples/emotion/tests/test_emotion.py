from __future__ import annotations

import csv
from pathlib import Path

import nlpkit_emotion
from nlpkit_emotion import Emotion

from nlpkit.testing import task_test

SAMPLE = Path(nlpkit_emotion.__file__).with_name("sample.csv")
EXAMPLES = list(csv.DictReader(SAMPLE.open(encoding="utf-8")))[:10]

test_emotion = task_test(Emotion, EXAMPLES)
