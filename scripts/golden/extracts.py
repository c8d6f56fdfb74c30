"""Golden extracts and filters for src/curation: the functions of the LLM Engineer's Handbook, chapter 6, as they are.

    pip install datasets==5.2.0
    python scripts/golden/extracts.py CHAPTER6.py ARTICLES.json

CHAPTER6.py holds clean_text, extract_substrings, filter_short_answers and filter_answer_format as the book prints them in
"Creating our own preference dataset"; it is not part of this project. ARTICLES.json is the handbook's
data/artifacts/cleaned_documents.json. Writes into test/golden/extracts/:
    articles.json.gz  the contents of ARTICLES.json, a list of texts
    extracts.json     length in characters, SHA-256 of the UTF-8 text and first characters of each extract, in order
    odd.json          texts that are easy to get wrong: cleaned, and their extracts for several lengths
    filters.json      answers, and whether each filter keeps it
    classes.json      ranges of characters in Python's \\w, \\s and str.isupper, and of those that Unicode has assigned
"""
import gzip, hashlib, importlib.util, io, json, platform, random, re, sys, unicodedata
import datasets
from datasets import Dataset
from golden_io import GOLDEN, write_json

OUT = GOLDEN / "extracts"

ODD = [
    "",
    "   ",
    "No end",
    "One. Two! Three? Four... Five?! Six.",
    "See e.g. this one, i.e. that one. Mr. Smith met Dr. Who. The U.S. Army of N. America. Version 3.1 is out. A.b. C.",
    "It's the author\u2019s \u201cown\u201d voice\u2014really. Na\u00efve caf\u00e9. Nai\u0308ve cafe\u0301. \u00bfQu\u00e9? \u00a1S\u00ed!",
    "Tabs\tand\nlines\r\nand\x0bmore\x0cof\x1cthem\x1dand\x1ethese\x1f. Next\x85line.\xa0No-break.\u2028Line.\u2029Paragraph.\u3000Wide.",
    "A\ufeffbyte order mark, a\u200bzero width space, a\u200djoiner, a\u00adsoft hyphen. \ufeff",
    "\U0001f600 Smile. \U0001d504\U0001d505 mathematical letters. \U00020000 ideograph. x\u00b2 and \u00bd, \u2167, \u2460, \u0663. _under_score_.",
    "\u65e5\u672c\u8a9e\u3002\u7d42\u308f\u308a. \u0939\u093f\u0928\u094d\u0926\u0940. \u05e9\u05c1\u05dc\u05d5\u05dd. \u0627\u0644\u0639\u064e\u0631\u0628\u064a\u0629. \u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22. \ud55c\uad6d\uc5b4.",
    "A.\u00e9. b. Ab. cd. \u00c9b. X. Yz. 1.2. 3. (a.b.) c. \"Quoted.\" Next.",
    "word " * 700 + ". Then more. " + "End! " * 400,
    "\U0001d504" * 9 + ". " + "\U0001d505" * 10 + ". " + "c" * 8 + ". D.",
]
LENGTHS = [(1000, 2000), (1, 10), (5, 20), (10, 20), (0, 0)]


def load_chapter(path):
    spec = importlib.util.spec_from_file_location("chapter6", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_texts(seed, count):
    """Texts of the characters that decide about sentences and spaces."""
    draw = random.Random(seed)
    alphabet = list("abAB1._.,!?'\"- \t\n.. ") + ["\u00e9", "\u0301", "\u00c9", "\x85", "\u2028", "\ufeff", "\U0001f600", "\U0001d504", "\u01c5"]
    return ["".join(draw.choices(alphabet, k=draw.randint(1, 120))) for _ in range(count)]


def ranges(holds):
    found, start = [], None
    for code in range(0x110001):
        inside = code < 0x110000 and holds(chr(code))
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            found.append([start, code - 1])
            start = None
    return found


def kept(rows, filtered):
    left = set(filtered["id"])
    return [row["id"] in left for row in rows]


chapter = load_chapter(sys.argv[1])
articles = [item["content"] for item in json.load(open(sys.argv[2], encoding="utf-8"))["artifact_data"]]
versions = {"python": platform.python_version(), "unicode": unicodedata.unidata_version, "datasets": datasets.__version__}

OUT.mkdir(parents=True, exist_ok=True)
packed = io.BytesIO()
with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9, mtime=0, filename="") as file:
    file.write(json.dumps(articles, ensure_ascii=False).encode())
(OUT / "articles.json.gz").write_bytes(packed.getvalue())

write_json(OUT / "extracts.json", {
    "versions": versions,
    "extracts": [
        [len(extract), hashlib.sha256(extract.encode()).hexdigest(), extract[:40]]
        for extract in chapter.extract_substrings(Dataset.from_dict({"content": articles}))
    ],
})

write_json(OUT / "odd.json", {
    "versions": versions,
    "texts": [
        {
            "text": text,
            "cleaned": chapter.clean_text(text),
            "extracts": [
                [low, high, chapter.extract_substrings(Dataset.from_dict({"content": [text]}), low, high)] for low, high in LENGTHS
            ],
        }
        for text in ODD + random_texts(6, 60)
    ],
})

answers = [
    "", " ", "A.", "a.", "A", "\u00c9.", "\u00e9.", "\u01c5.", "\u2160!", "\u24b6?", "1.", "_.", "'A.", "A. ", "\U0001d504.", "\U0001d51e.", "\u00aa.", "A\u2026", "A\u3002",
    "A" * 98 + ".", "A" * 99 + ".", "A" * 100 + ".", "\U0001d504" * 99 + ".", "\U0001d504" * 98 + ".", "A" * 99 + "\n",
]
rows = [{"id": i, "chosen": answer} for i, answer in enumerate(answers)]
dataset = Dataset.from_list(rows)
write_json(OUT / "filters.json", {
    "versions": versions,
    "answers": answers,
    "long_enough": kept(rows, chapter.filter_short_answers(dataset)),
    "well_formed": kept(rows, chapter.filter_answer_format(dataset)),
})

word, space = re.compile(r"\w"), re.compile(r"\s")
write_json(OUT / "classes.json", {
    "versions": versions,
    "word": ranges(lambda c: bool(word.match(c))),
    "space": ranges(lambda c: bool(space.match(c))),
    "upper": ranges(str.isupper),
    "assigned": ranges(lambda c: unicodedata.category(c) not in ("Cn", "Cs")),
})
