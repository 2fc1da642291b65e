from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import os
import random
import re
import resource
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import nlpkit.demo.shop
from nlpkit.cli import main
from nlpkit.demo import write_shop
from nlpkit.demo.reviews import clauses, generate
from nlpkit.errors import ResourceError, RunFolderError

Rows = list[dict[str, str]]


def read_csv(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rows]:
    return {path.name: read_csv(path) for path in write_shop(tmp_path_factory.mktemp("demo") / "shop")}


def folded(rows: Rows) -> list[str]:
    return [" ".join(row["review"].casefold().split()) for row in rows]


def opinions() -> dict[str, list[str]]:
    """Every clause that counts for a label, with ``.*`` where something is filled in."""
    inventory = clauses()
    found: dict[str, list[str]] = {"positive": [], "negative": []}
    for group in [*inventory["facets"].values(), inventory["verdicts"]]:
        for label, patterns in found.items():
            patterns.extend(group[label])
    return found


def clause_patterns() -> list[tuple[re.Pattern[str], str]]:
    """A pattern for each clause that finds it in a folded text, and the label it speaks for."""
    inventory = clauses()
    neutral = (*inventory["openings"]["clauses"], *inventory["asides"]["clauses"])
    leads = (*inventory["hopes"]["clauses"], *inventory["worries"]["clauses"], *inventory["leads"]["positive"])
    labelled = [(clause, "") for clause in (*neutral, *leads, *inventory["leads"]["negative"])]
    for label in ("positive", "negative"):
        labelled += [(clause, label) for clause in (*opinions()[label], *inventory["titles"][label])]
    fillings = {**inventory["slots"], "place": inventory["slots"]["place"] + inventory["slots"]["room"]}
    fillings |= {"product": [product["noun"] for product in inventory["products"]], "other": fillings["colour"]}
    fillings |= {key: [person[key] for person in inventory["people"]] for key in inventory["people"][0]}
    compiled = []
    for clause, label in sorted(labelled, key=lambda pair: -len(pair[0])):
        pattern = re.escape(clause.casefold()).replace(r"\[", "(?:").replace(r"\]", ")").replace(r"\|", "|")
        for name, values in fillings.items():
            pattern = pattern.replace(rf"\{{{name}\}}", f"(?:{'|'.join(re.escape(v.casefold()) for v in values)})")
        pattern = re.sub(r"\\ ", r"\\s*", pattern)
        compiled.append((re.compile(rf"(?<![\w']){pattern}(?![\w'])"), label))
    return compiled


def test_shop_has_four_files_of_the_promised_size(shop: dict[str, Rows]) -> None:
    sizes = {name: len(rows) for name, rows in shop.items()}
    assert sizes == {"reviews.csv": 3000, "labelled.csv": 400, "new.csv": 20, "more-labelled.csv": 200}


def test_shop_shows_labels_only_where_they_belong(shop: dict[str, Rows]) -> None:
    columns = {name: list(rows[0]) for name, rows in shop.items()}
    plain, labelled = ["id", "product", "review"], ["id", "product", "review", "sentiment"]
    assert columns == {
        "reviews.csv": plain,
        "labelled.csv": labelled,
        "new.csv": plain,
        "more-labelled.csv": labelled,
    }


@pytest.mark.parametrize("name", ["labelled.csv", "more-labelled.csv"])
def test_labels_are_near_to_even(shop: dict[str, Rows], name: str) -> None:
    counts = Counter(row["sentiment"] for row in shop[name])
    assert set(counts) == {"positive", "negative"}
    assert min(counts.values()) > 0.4 * counts.total()


def test_no_text_comes_twice_in_any_file(shop: dict[str, Rows]) -> None:
    texts = [text for rows in shop.values() for text in folded(rows)]
    assert len(texts) == len(set(texts)) == 3620


def test_ids_are_unique(shop: dict[str, Rows]) -> None:
    ids = [row["id"] for rows in shop.values() for row in rows]
    assert len(set(ids)) == len(ids)


def test_shop_is_the_same_every_time(tmp_path: Path) -> None:
    first, second = write_shop(tmp_path / "one"), write_shop(tmp_path / "two")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_csv_needs_quoting(shop: dict[str, Rows]) -> None:
    texts = [row["review"] for row in shop["labelled.csv"]]
    for sign, least in {"\n": 40, '"': 4, ",": 100}.items():
        assert sum(sign in text for text in texts) >= least


def test_texts_go_beyond_ascii(shop: dict[str, Rows]) -> None:
    text = "".join(row["review"] for row in shop["reviews.csv"])
    assert set("éïö£€°’…😍👎") <= set(text)


def test_no_template_is_left_unfilled(shop: dict[str, Rows]) -> None:
    assert [row for rows in shop.values() for row in rows if re.search(r"[{}\[\]|]|  | [,.!]", row["review"])] == []


def test_reviews_are_of_one_to_ten_sentences(shop: dict[str, Rows]) -> None:
    counts = [len(re.findall(r"[^.!?…\n]+", row["review"])) for row in shop["reviews.csv"]]
    assert min(counts) == 1
    assert max(counts) <= 10  # eight, of which some have a question or a full stop inside


def test_every_clause_with_an_opinion_is_used(shop: dict[str, Rows]) -> None:
    everything = "\n".join(text for rows in shop.values() for text in folded(rows)).replace("’", "'")
    unused = []
    for clause in itertools.chain(*opinions().values()):
        longest = max(re.split(r"\[[^\]]*\]|\{\w+\}", clause), key=len).strip().casefold()
        if longest not in everything:
            unused.append(clause)
    assert unused == []


def test_inventory_has_hundreds_of_distinct_clauses() -> None:
    found = opinions()
    both = found["positive"] + found["negative"]
    assert len(both) == len(set(both)) > 400


def test_inventory_names_only_facets_and_slots_that_exist() -> None:
    text = Path(nlpkit.demo.__file__).with_name("clauses.toml").read_text(encoding="utf-8")
    inventory = tomllib.loads(text)
    used = set(itertools.chain(inventory["general"]["facets"], *(p["facets"] for p in inventory["products"])))
    assert used == set(inventory["facets"])
    assert set(inventory["general"]["decisive"]) < set(inventory["general"]["facets"])
    known = {*inventory["slots"], *inventory["people"][0], "product", "other"}
    assert set(re.findall(r"\{(\w+)\}", text.split("[openings]")[1])) <= known


def test_label_is_what_most_clauses_say() -> None:
    """Counted back from the text: spelling is mended, then clauses are taken out of it, the longest first."""
    patterns = clause_patterns()
    mend = {wrong: right for right, wrong in clauses()["spelling"].items()}
    for review in itertools.islice(generate(random.Random(1), set()), 400):
        text = re.sub(r"[\w']+", lambda word: mend.get(word[0], word[0]), review.text.casefold().replace("’", "'"))
        sides: Counter[str] = Counter()
        for pattern, label in patterns:
            text, found = pattern.subn("#", text)
            sides[label] += found
        other = "negative" if review.sentiment == "positive" else "positive"
        assert sides[review.sentiment] > sides[other], review


def test_words_alone_do_not_decide(shop: dict[str, Rows]) -> None:
    train, test = shop["labelled.csv"], shop["more-labelled.csv"]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = LogisticRegression(C=10, max_iter=1000)
    model.fit(vectorizer.fit_transform(row["review"] for row in train), [row["sentiment"] for row in train])
    score = model.score(vectorizer.transform(row["review"] for row in test), [row["sentiment"] for row in test])
    assert 0.85 <= score <= 0.95


def test_generate_gives_equal_reviews_for_equal_seeds() -> None:
    first, second, other = (list(itertools.islice(generate(random.Random(s), set()), 50)) for s in (3, 3, 4))
    assert first == second != other


def test_generate_skips_texts_already_seen() -> None:
    seen: set[str] = set()
    first = {review.text for review in itertools.islice(generate(random.Random(3), seen), 50)}
    again = {review.text for review in itertools.islice(generate(random.Random(3), seen), 50)}
    assert not first & again


def test_write_shop_returns_paths_in_an_empty_folder_that_exists(tmp_path: Path) -> None:
    paths = write_shop(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_write_shop_makes_missing_parents(tmp_path: Path) -> None:
    write_shop(tmp_path / "a" / "b")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_write_shop_never_touches_a_folder_with_files(tmp_path: Path) -> None:
    (tmp_path / "labelled.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(RunFolderError) as error:
        write_shop(tmp_path)
    assert error.value.message == f"{tmp_path}: folder is not empty, and nothing in it is overwritten"
    assert error.value.hint == "choose another folder with --out DIR, or delete this one first"
    assert [(path.name, path.read_text("utf-8")) for path in tmp_path.iterdir()] == [("labelled.csv", "mine")]


def test_write_shop_refuses_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    file = tmp_path / "shop"
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(RunFolderError) as error:
        write_shop(file)
    assert error.value.message == f"{file}: is not a folder"
    assert file.read_text("utf-8") == "mine"


def test_write_shop_below_a_file_says_that_it_cannot_write(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(RunFolderError):
        write_shop(file / "shop")


def test_write_shop_with_a_name_that_is_too_long_says_that_it_cannot_write(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 300)
    with pytest.raises(RunFolderError) as error:
        write_shop(folder)
    assert error.value.message == f"{folder}: cannot be written (File name too long)"


@pytest.mark.parametrize("exists", [False, True])
def test_write_shop_leaves_nothing_half_written(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "shop"
    if exists:
        folder.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # as a disk that fills up in the first file
    try:
        with pytest.raises(ResourceError):
            write_shop(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.rglob("*")) == ([folder] if exists else [])


def test_write_shop_takes_back_files_when_moving_them_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def fail_on_the_third(self: Path, target: Path) -> Path:
        if self.name == "new.csv":
            raise PermissionError(13, os.strerror(13))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_on_the_third)
    with pytest.raises(RunFolderError):
        write_shop(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_shop_is_the_one_the_documentation_quotes(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in write_shop(tmp_path))).hexdigest()
    assert digest[:16] == "19dfb1e2accb1c7c"


def test_shop_rows_read_the_same_with_a_plain_parser(shop: dict[str, Rows], tmp_path: Path) -> None:
    """A reader written here, character by character: quotes, commas and line breaks are where RFC 4180 wants them."""
    path = next(path for path in write_shop(tmp_path) if path.name == "labelled.csv")
    rows, cell, row, quoted = [], io.StringIO(), [], False
    for sign in path.read_text(encoding="utf-8").replace('""', "\0"):
        if sign == '"':
            quoted = not quoted
        elif sign in ",\n" and not quoted:
            row.append(cell.getvalue().replace("\0", '"'))
            cell = io.StringIO()
            if sign == "\n":
                rows.append(row)
                row = []
        else:
            cell.write(sign)
    assert [dict(zip(rows[0], row, strict=True)) for row in rows[1:]] == shop["labelled.csv"]


def test_demo_shop_prints_files_on_stdout_and_next_commands_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "shop"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "shop/reviews.csv\nshop/labelled.csv\nshop/new.csv\nshop/more-labelled.csv\n"
    assert printed.err == (
        "next:\n"
        "  nlpkit pretrain shop/reviews.csv --objective mlm --out runs/base\n"
        "  nlpkit fit --task sentiment shop/labelled.csv --from runs/base --out runs/sentiment\n"
        "  nlpkit evaluate runs/sentiment shop/more-labelled.csv\n"
        "  nlpkit predict runs/sentiment shop/new.csv > predictions.jsonl\n"
    )
    assert all(Path(line).is_file() for line in printed.out.splitlines())


def test_demo_shop_quotes_paths_for_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my shop"
    main(["demo", "shop", "--out", str(folder)])
    assert f"nlpkit evaluate runs/sentiment '{folder}/more-labelled.csv'\n" in capsys.readouterr().err


def test_demo_shop_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "shop", "--out", str(tmp_path), "--json", "--quiet"]) == 0
    printed = capsys.readouterr()
    content = json.loads(printed.out)
    assert [Path(name).name for name in content["files"]] == [
        "reviews.csv",
        "labelled.csv",
        "new.csv",
        "more-labelled.csv",
    ]
    assert len(content["next"]) == 4
    assert printed.err == ""


def test_demo_shop_a_second_time_exits_with_8_and_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["demo", "shop", "--out", str(tmp_path), "--quiet"])
    capsys.readouterr()
    assert main(["demo", "shop", "--out", str(tmp_path)]) == 8
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"error: {tmp_path}: folder is not empty, and nothing in it is overwritten\n"
        "hint: choose another folder with --out DIR, or delete this one first\n"
    )
