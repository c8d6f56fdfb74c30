"""Where the golden files lie, and how they are written: the same bytes from the same numbers."""
import json, os, pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "test" / "golden"
TRAIN_ROWS = ROOT / "examples" / "twin-tiny" / "data" / "llmtwin-train.jsonl"
TEST_ROWS = ROOT / "examples" / "twin-tiny" / "data" / "llmtwin-test.jsonl"


def read_jsonl(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def write_jsonl(path, rows):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_json(path, value):
    """One key a line; a list of plain values, or of lists of them, on one line."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(_format(value, 0) + "\n")


def _format(value, depth):
    if isinstance(value, dict) and value:
        items = [f"{json.dumps(key)}: {_format(item, depth + 1)}" for key, item in value.items()]
        return _block("{", items, "}", depth)
    if isinstance(value, list) and any(_holds_object(item) for item in value):
        return _block("[", [_format(item, depth + 1) for item in value], "]", depth)
    return json.dumps(value)


def _holds_object(value):
    return isinstance(value, dict) or (isinstance(value, list) and any(_holds_object(item) for item in value))


def _block(opening, items, closing, depth):
    indent = "\n" + " " * (depth + 1)
    return opening + indent + ("," + indent).join(items) + "\n" + " " * depth + closing
