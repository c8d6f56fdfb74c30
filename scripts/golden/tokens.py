"""Golden tokens for src/data: TRL's own functions on text that is easy to get wrong, with twin-tiny's tokenizer.

    pip install torch==2.13.0 trl==1.13.0 transformers==5.18.0
    python scripts/golden/tokens.py > test/data/golden/tokens.jsonl

One JSON object a line, named by its `kind`; the first line gives the versions.
    chat_template   a template that later records name
    pairs           rows as in a data file, and what DPOTrainer._prepare_dataset and the collator make of each: the three
                    lists of token ids and whether TRL warns of a mismatch, or null for a row that is dropped
    extract_prompt  rows without a prompt, and TRL's extract_prompt of each
    decode          token ids and their text
    sentencepiece_tokenizer  a small tokenizer of Llama 2's kind, written as older versions of transformers converted it
    sentencepiece   its tokens for each text when it is loaded as a LlamaTokenizer with a tokenizer_config.json
"""
import contextlib, json, pathlib, random, shutil, sys, tempfile
from types import SimpleNamespace
import tokenizers, transformers, trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
from transformers import AutoTokenizer
from trl import DPOTrainer, extract_prompt
from trl.trainer import dpo_trainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

MODEL = pathlib.Path(__file__).parents[2] / "examples" / "twin-tiny" / "model"
PROMPT_TEMPLATES = {
    "alpaca": "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
              "### Instruction:\n{}\n\n### Response:\n",
    "none": "{}",
}
CHAT_TEMPLATES = {
    # Llama 3's own.
    "llama3": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
              "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
              "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
              "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    # What the later ones do besides: blocks over lines, tests for tools and dates, a system message of their own, checks.
    "llama3.1": """{{- bos_token }}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\nToday Date: " + date_string + "\\n\\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if message.role not in ['user', 'assistant'] %}
        {{- raise_exception('Only user and assistant messages are supported') }}
    {%- endif %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
}
TEXTS = [
    "", " ", "  ", "\n", "\n\n\n", "\t", "a", "Hello", " Hello", "Hello ", "Hello\n", "Hello world", "hello  world", "HELLO'S", "it's we'RE",
    "one\r\ntwo\r\n", "one\rtwo", "a\u2028b\u2029c", "tab\tand  spaces   end   ", "1234567890", "3.14159e-10", "x=1;y=2;", "###", "{}", "{0} {} $& $1 $$ \\1",
    "naïve café", "nai\u0308ve cafe\u0301", "Straße ẞ ǅ ŉ", "日本語のテキスト", "中文，标点。", "한국어 텍스트", "مرحبا بالعالم", "שלום עולם", "हिन्दी पाठ", "ไทย",
    "😀", "👩‍👩‍👧‍👦 family", "🇩🇪🇫🇷", "❤️ vs ❤", "\U0001f9d1\U0001f3fd\u200d\U0001f680", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𒀀", "Ω≈ç√∫˜µ≤≥÷", "\u200bzero\u200bwidth\u200d", "\ufeffBOM inside\ufeff",
    "\u0000nul\u0000", "\u0007bell\u001b[31mred\u001b[0m", "\u0085next\u001cline\u001f", "\u00a0nbsp\u3000ideographic", "\ufffd replacement", "\ufdd0\uffff noncharacters",
    "<|begin_of_text|>", "<|end_of_text|>", "ends <|end_of_text|>", "<|eot_id|> in the middle", "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>",
    "<|end_of_text|><|end_of_text|>", "<|end_of_text|> ", "<|end_of_text", "<|not_special|>", "<|finetune_right_pad_id|>", "a<|begin_of_text|>b",
    "def f(x):\n    return x ** 2  # ünï\n", "https://example.com/a?b=c&d=%20", "SELECT * FROM t WHERE a='b';--", "\\n \\u0041 \"quoted\" 'single' `tick`",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ababababababababababababab", "................", "- - - - - -", "¿¡§¶†‡",
    "Ünïcödé\tmïxed\r\nwith 数字123 and émojis 🎉🎊!", "İstanbul ıssız", "ﬁ ligature ﬀ", "Ⅷ ½ ² ①", "K Å Kelvin and Angstrom signs", "'s 'T 'Ll 'ſ",
]
PIECES = [" ", "  ", "\n", "\r\n", "\t", "a", "The", " the", "ing", "ly", "é", "ß", "日", "本語", "😀", "👩‍👧", "'s", "'T", "1", "23", "4567", "!", "?!", "...", "-", "_",
          "<|eot_id|>", "<|end_of_text|>", "\u00a0", "\u3000", "\u200d", "\u0301", "Ω", "{}", "$&", "\\", "#", "http", "://", " language", " model", "\u0085", "\ufeff"]


def jumble(rng):
    return "".join(rng.choice(PIECES) for _ in range(rng.randrange(12)))


def text_rows():
    rng = random.Random(0)
    rows = [{"prompt": text, "chosen": TEXTS[-1 - i], "rejected": rng.choice(TEXTS)} for i, text in enumerate(TEXTS)]
    rows += [{"prompt": prompt, "chosen": chosen, "rejected": rejected} for prompt, chosen, rejected in [
        ("The langu", "age model", "ages"), ("Write ", " two spaces", "no space"), ("line\n", "\nnext", "next"), ("12", "345", "6"),
        ("caf", "é", "e\u0301"), ("👩", "\u200d👧", "👧"), ("it", "'s", "'t"), ("x", "y<|end_of_text|>", "y<|end_of_text|>\n"),
        ("same", "same", "same"), ("Question: why?", " Because.", "Because."), ("ends with space ", "word", " word"), ("", "", ""), ("", "a", "")]]
    return rows + [{"prompt": jumble(rng), "chosen": jumble(rng), "rejected": jumble(rng)} for _ in range(70)]


def message(role, content):
    return {"role": role, "content": content}


def message_rows():
    rng = random.Random(1)
    rows = [{"prompt": [message("user", text)], "chosen": [message("assistant", rng.choice(TEXTS))],
             "rejected": [message("assistant", rng.choice(TEXTS))]} for text in TEXTS]
    rows += [
        {"prompt": [message("system", " Be brief. \n"), message("user", "Hi")], "chosen": [message("assistant", "Hello")], "rejected": [message("assistant", "No")]},
        {"prompt": [message("user", "1"), message("assistant", "2"), message("user", "3")], "chosen": [message("assistant", "4")], "rejected": [message("assistant", "5")]},
        {"prompt": [message("user", "Go on")], "chosen": [message("assistant", "a"), message("user", "b"), message("assistant", "c")], "rejected": [message("assistant", "d")]},
        {"prompt": [message("user", "half"), message("assistant", "an answer that")], "chosen": [message("assistant", "goes on")], "rejected": [message("assistant", "stops")]},
    ]
    return rows + [{"prompt": [message("user", jumble(rng))], "chosen": [message("assistant", jumble(rng))],
                    "rejected": [message("assistant", jumble(rng))]} for _ in range(30)]


class Mismatches:
    """Stands in for TRL's logger: counts its warnings."""

    def __init__(self):
        self.count = 0

    def warning(self, text):
        assert text.startswith("Mismatch between tokenized prompt"), text
        self.count += 1


def tokenize(tokenizer, row, max_length):
    args = SimpleNamespace(dataset_num_proc=None, max_length=max_length, truncation_mode="keep_start")
    dpo_trainer.logger = mismatches = Mismatches()
    prepared = DPOTrainer._prepare_dataset(SimpleNamespace(_tokenizer=tokenizer), Dataset.from_list([row]), tokenizer, args, "train")
    if len(prepared) == 0:
        return None
    batch = DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id, max_length=max_length)([prepared[0]])
    lists = {"prompt_ids": prepared[0]["prompt_ids"]}
    for i, side in enumerate(("chosen_ids", "rejected_ids")):
        lists[side] = batch["input_ids"][i][batch["completion_mask"][i].bool()].tolist()
    return {**lists, "mismatch": mismatches.count > 0}


def pairs(template, rows, max_length):
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    if template in CHAT_TEMPLATES:
        tokenizer.chat_template = CHAT_TEMPLATES[template]
        prepared = rows
    else:
        prepared = [{**row, "prompt": PROMPT_TEMPLATES[template].replace("{}", row["prompt"])} for row in rows]
    expected = [tokenize(tokenizer, row, max_length) for row in prepared]
    return {"kind": "pairs", "template": template, "max_length": max_length, "rows": rows, "expected": expected}


def extracted():
    rng = random.Random(2)
    texts = [("The sky is blue", "The sky is green"), ("The sky is", "The sky is green"), ("same", "same"), ("a", "b"), ("a", "a"), ("abc ", "abd"),
             ("a b", "a c"), ("a  b", "a  c"), ("😀😁", "😀😂"), ("x 😀", "x 😁"), ("a \n", "a \t"), (" ", " "), (" a", " b"), ("e\u0301", "e\u0300")]
    for _ in range(30):
        shared = jumble(rng)
        texts.append((shared + jumble(rng) + "x", shared + jumble(rng) + "y"))
    # Where nothing is shared and chosen ends with a space, an index of -1 cuts both answers in TRL.
    texts = [(a, b) for a, b in texts if not (a[0] != b[0] and a[-1] == " ")]
    turn = [message("user", "1"), message("assistant", "2"), message("user", "3")]
    conversations = [(turn[:1] + [message("assistant", "a")], turn[:1] + [message("assistant", "b")]),
                     (turn + [message("assistant", "a")], turn + [message("assistant", "b"), message("user", "c")]),
                     (turn, turn), (turn[:2], turn)]
    for chosen, rejected in texts + conversations:
        yield {"kind": "extract_prompt", "chosen": chosen, "rejected": rejected, "expected": extract_prompt({"chosen": chosen, "rejected": rejected})}


def decoded():
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    rng = random.Random(3)
    for text in TEXTS[:60:3]:
        ids = tokenizer(text).input_ids
        yield {"kind": "decode", "ids": ids, "text": tokenizer.decode(ids), "without_special": tokenizer.decode(ids, skip_special_tokens=True)}
    for _ in range(40):
        ids = [rng.choice([rng.randrange(4102), rng.randrange(256)]) for _ in range(rng.randrange(1, 12))]
        yield {"kind": "decode", "ids": ids, "text": tokenizer.decode(ids), "without_special": tokenizer.decode(ids, skip_special_tokens=True)}


def sentencepiece_tokenizer():
    special = ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.train_from_iterator(
        [text for text in TEXTS if text.isascii()],
        trainers.BpeTrainer(vocab_size=420, special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)], show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    file = json.loads(tokenizer.to_str())
    file["added_tokens"] = [token for token in file["added_tokens"] if token["content"] in special]
    return file


def sentencepiece(file, config):
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", **config}
    texts = [text.replace("<|end_of_text|>", "</s>").replace("<|begin_of_text|>", "<s>") for text in TEXTS[::2]] + ["</s>\n<|user|>\nHi</s> there", "a</s></s> b"]
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "tokenizer.json").write_text(json.dumps(file))
        (pathlib.Path(folder) / "tokenizer_config.json").write_text(json.dumps(config))
        shutil.copy(MODEL / "config.json", folder)
        loaded = AutoTokenizer.from_pretrained(folder)
    assert type(loaded).__name__ == "LlamaTokenizer"
    ids = [loaded(text).input_ids for text in texts]
    cases = [{"text": text, "ids": i, "decoded": loaded.decode(i)} for text, i in zip(texts, ids)]
    return {"config": config, "cases": cases}


def records():
    yield {"kind": "versions", "script": "scripts/golden/tokens.py", **{m.__name__: m.__version__ for m in (trl, transformers, tokenizers)}}
    for name, text in CHAT_TEMPLATES.items():
        yield {"kind": "chat_template", "name": name, "text": text}
    yield pairs("none", text_rows(), 1024)
    yield pairs("none", text_rows()[-40:], 12)
    yield pairs("alpaca", text_rows()[::6], 1024)
    yield pairs("llama3", message_rows(), 1024)
    yield pairs("llama3.1", message_rows()[::3], 90)
    yield from extracted()
    yield from decoded()
    file = sentencepiece_tokenizer()
    yield {"kind": "sentencepiece_tokenizer", "file": file}
    for config in ({"legacy": False}, {"legacy": True}, {"add_prefix_space": False}):
        yield {"kind": "sentencepiece", **sentencepiece(file, config)}


with contextlib.redirect_stdout(sys.stderr):
    lines = [json.dumps(record, separators=(",", ":")) for record in records()]
print("\n".join(lines))
