"""Golden files for src/data: which files `datasets` takes for which split, the rows it reads from them, and its split.

    pip install datasets==5.2.0 pyarrow==26.0.1 trl==1.13.0
    python scripts/golden/datasets_files.py

Writes test/data/golden/files/ (Parquet and CSV files) and test/data/golden/datasets.jsonl, one JSON object a line:
    splits   the files of a folder, the head of its README, and what load_dataset takes for each split of a configuration
    rows     a file of golden/files and the rows that load_dataset reads from it
    dialogue a pair of HH-RLHF's kind, and TRL's conversion to messages (examples/datasets/hh-rlhf-helpful-base.py), retold
    permutation  SHA-256 of the row numbers (uint32, little-endian) of Dataset.train_test_split
"""
import hashlib, json, os, pathlib, re, shutil, tempfile
import datasets, numpy, pyarrow, pyarrow.parquet
from datasets import Dataset, load_dataset, load_dataset_builder

FOLDER = pathlib.Path(__file__).parents[2] / "test" / "data" / "golden"
FILES = FOLDER / "files"
datasets.disable_progress_bars()

TREES = [
    ["rows.jsonl"], ["b.csv", "a.csv", "A.csv", "sub/c.csv"], ["train.jsonl", "test.jsonl"], ["data/train.csv", "data/validation.csv"],
    ["data/train-00001-of-00002.parquet", "data/train-00000-of-00002.parquet", "data/test-00000-of-00001-0a1b2c.parquet", "other/dev.parquet"],
    ["data/train_prefs-00000-of-00001.parquet", "data/test_prefs-00000-of-00001.parquet", "data/train_sft-00000-of-00001.parquet"],
    ["helpful/train.jsonl.gz", "harmless/train.jsonl.gz", "harmless/test.jsonl.gz"], ["train/a.csv", "train/b.csv", "val/x.csv", "x/y/dev/1.csv", "test.csv"],
    ["training.json", "evaluation.json", "x.json"], ["my_train_file.jsonl", "my-test-file.jsonl", "untrained.jsonl"], ["Train.jsonl", "TEST.jsonl"],
    ["train.csv", ".hidden/train.csv", "__pycache__/train.csv", ".train.csv"], ["train_test.csv", "train.csv"], ["train-0.jsonl", "train-1.jsonl", "train-10.jsonl", "train-2.jsonl"],
    ["a.jsonl", "b.jsonl", "c.parquet"], ["a.parquet", "b.csv"], ["a.json", "b.jsonl"], ["train.jsonl", "train.csv", "train.json"],
    ["data/train/0.parquet", "data/train/1.parquet", "data/eval/0.parquet"], ["dev.tsv", "train.tsv"], ["train set/a b.csv", "test 1/c.csv"],
    ["config.json", "dataset_infos.json", "rows.jsonl"], ["v1.0/train.jsonl", "v1.0/test.jsonl"], ["validation_set.csv", "valid.csv"],
]
READMES = [
    (["a/x.jsonl", "a/y.jsonl", "b/z.jsonl"], "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: a/*\n  - split: held_out\n    path: b/z.jsonl\n", [None]),
    (["one.csv", "two.csv", "d/three.csv"], "configs:\n- config_name: first\n  data_files: one.csv\n- config_name: second\n  data_files: [two.csv, 'd/**']\n  default: true\n", [None, "first", "second"]),
    (["helpful/train.jsonl", "helpful/test.jsonl", "harmless/train.jsonl"], "configs:\n- config_name: helpful\n  data_dir: helpful\n- config_name: harmless\n  data_dir: harmless\n", ["helpful", "harmless"]),
    (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], "license: mit\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n  - split: test\n    path: data/test-*\n", [None, "default"]),
    (["p/[x]/a.csv", "p/q/b1.csv", "p/q/b2.csv", "p/q/c1.csv"], "configs:\n- config_name: odd\n  data_files:\n  - split: train\n    path: ['p/q/[b]?.csv']\n  - split: other\n    path: ['p/*/[!b]*.csv']\n", ["odd"]),
    (["rows.jsonl", "train.jsonl"], "license: mit\n", [None]),
]
CONTENT = {".csv": "chosen,rejected\na,b\n", ".tsv": "chosen\trejected\na\tb\n", ".jsonl": '{"chosen": "a", "rejected": "b"}\n', ".json": '[{"chosen": "a", "rejected": "b"}]'}


def fill(folder, paths):
    for path in paths:
        file = pathlib.Path(folder, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"{}" if path in ("config.json", "dataset_infos.json") else b"" if path.endswith((".parquet", ".gz")) else CONTENT[file.suffix].encode())


def splits():
    for paths, readme, configs in [(paths, None, [None]) for paths in TREES] + READMES:
        with tempfile.TemporaryDirectory() as folder:
            folder = os.path.realpath(folder)
            fill(folder, paths)
            if readme is not None:
                pathlib.Path(folder, "README.md").write_text(f"---\n{readme}---\n# A data set\n")
            for config in configs:
                data_files = load_dataset_builder(folder, config).config.data_files
                found = {str(split): [os.path.relpath(file, folder) for file in files] for split, files in data_files.items()}
                # A file that two patterns name is read twice by datasets.
                found = {split: list(dict.fromkeys(files)) for split, files in found.items()}
                head = None if readme is None else f"---\n{readme}---\n# A data set\n"
                yield {"kind": "splits", "paths": paths, "readme": head, "config": config, "expected": found}


def message(role, content, **other):
    return {"role": role, "content": content, **other}


TEXTS = ["plain", "", " lead and trail ", 'quotes "q" and, commas', "line\nfeed", "crlf\r\nline", "tab\there", "日本語 😀", "\u2028 and \u0085", "nul-free \u0007 bell", "[not a list", "a" * 3000]
TEXT_ROWS = [{"id": i, "prompt": text, "chosen": TEXTS[-1 - i], "rejected": f"no {i}", "score": i / 3} for i, text in enumerate(TEXTS)]
MESSAGE_ROWS = [{"prompt": f"q {i}", "chosen": [message("user", f"q {i}", turn=2**40 + i), message("assistant", text, turn=i)],
                 "rejected": [message("user", f"q {i}", turn=2**40 + i), message("assistant", f"no {i}", turn=None)], "score_chosen": 8.5} for i, text in enumerate(TEXTS)]
ORCA_ROWS = [{"system": "" if i % 3 == 0 else f"You are {i}.", "question": f"q {i}", "chosen": text + ".", "rejected": "no"} for i, text in enumerate(TEXTS)]


def rows():
    shutil.rmtree(FILES, ignore_errors=True)
    FILES.mkdir(parents=True)
    for codec in ("none", "snappy", "gzip", "brotli", "zstd", "lz4"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(TEXT_ROWS), FILES / f"text-{codec}.parquet", compression=codec, row_group_size=5)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(TEXT_ROWS), FILES / "text-v2.parquet", data_page_version="2.0", use_dictionary=False, version="2.6")
    large = pyarrow.Table.from_pylist(TEXT_ROWS).cast(pyarrow.schema([("id", pyarrow.int64()), ("prompt", pyarrow.large_string()), ("chosen", pyarrow.large_string()), ("rejected", pyarrow.large_string()), ("score", pyarrow.float64())]))
    pyarrow.parquet.write_table(large, FILES / "text-large-string.parquet")
    Dataset.from_list(MESSAGE_ROWS).to_parquet(FILES / "messages.parquet", batch_size=5)
    Dataset.from_list(ORCA_ROWS).to_parquet(FILES / "orca.parquet")
    Dataset.from_list(TEXT_ROWS).to_csv(FILES / "text.csv", index=False)
    with open(FILES / "text-bom.csv", "wb") as file:
        file.write(b"\xef\xbb\xbf" + (FILES / "text.csv").read_bytes())
    for file in sorted(FILES.iterdir()):
        read = load_dataset("csv" if file.suffix == ".csv" else "parquet", data_files=str(file), split="train", keep_in_memory=True).to_list()
        if file.suffix == ".csv":  # An empty cell is None in pandas.
            read = [{key: "" if value is None else value for key, value in row.items()} for row in read]
        yield {"kind": "rows", "file": file.name, "expected": read}


TURN = r"\n\nHuman: |\n\nAssistant: "


def dialogue(chosen, rejected):
    shared = os.path.commonprefix([chosen, rejected])
    end = shared.rindex("\n\nAssistant: ") + len("\n\nAssistant: ")
    head = chosen[:end - len("\n\nAssistant: ")]
    roles = ["user" if mark == "\n\nHuman: " else "assistant" for mark in re.findall(TURN, head)]
    return {"prompt": [message(*turn) for turn in zip(roles, re.split(TURN, head)[1:])],
            "chosen": [message("assistant", chosen[end:])], "rejected": [message("assistant", rejected[end:])]}


def dialogues():
    start = "\n\nHuman: What is it?\n\nAssistant: A thing.\n\nHuman: Which\n one?\n\nAssistant: "
    for chosen, rejected in [("I am sure.", "I am not."), ("Yes", "No"), ("same start", "same"), ("a\n\nb", "a\n\nc"), ("", "x"), ("same", "same")]:
        yield {"kind": "dialogue", "chosen": start + chosen, "rejected": start + rejected, "expected": dialogue(start + chosen, start + rejected)}


def permutations():
    for rows, test_size, seed in [(200_000, 0.05, 42), (1_000_003, 0.001, 7), (65_536, 0.5, 2**32 - 1), (65_537, 100, 0)]:
        parts = Dataset.from_dict({"i": numpy.arange(rows)}).train_test_split(test_size=test_size, seed=seed)
        hashes = {name: hashlib.sha256(numpy.asarray(part.with_format("numpy")["i"][:], dtype="<u4").tobytes()).hexdigest() for name, part in parts.items()}
        yield {"kind": "permutation", "rows": rows, "test_size": test_size, "seed": seed, **hashes}


records = [{"kind": "versions", "script": "scripts/golden/datasets_files.py", "datasets": datasets.__version__, "pyarrow": pyarrow.__version__},
           *splits(), *rows(), *dialogues(), *permutations()]
(FOLDER / "datasets.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
