#!/usr/bin/env python3
"""Cut the small data files of the golden runs from twin-tiny's real pairs, to test/golden/data/.

Rows that real data has and that have broken trainers are added by hand: an end-of-text token already there, Unicode,
tokens that merge across the end of the prompt, a prompt that alone reaches max_length, messages of several turns.
"""
from golden_io import GOLDEN, TEST_ROWS, TRAIN_ROWS, read_jsonl, write_jsonl

ROWS, HELD_OUT = read_jsonl(TRAIN_ROWS), read_jsonl(TEST_ROWS)


def row(prompt, chosen, rejected):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def uneven():
    """12 pairs. With mha-tied's tokenizer and max_length 76 one is dropped and sides of the others are cut."""
    too_long = row(" ".join(ROWS[i]["prompt"] for i in (0, 1, 2, 3)), "Yes.", "No.")
    has_end = row(ROWS[9]["prompt"], ROWS[9]["chosen"] + "<|end_of_text|>", "Nothing.")
    merges = row("Finish the sentence: The authors expla", "in that the method is sound.", "y games all day.")
    unicode = row("¿Qué dice el texto? 🙂 日本語", "“Naïve” café: 東京で学ぶ 🚀", ROWS[61]["chosen"])
    return [ROWS[0], ROWS[8], ROWS[89], ROWS[3], too_long, ROWS[15], unicode, ROWS[5], merges, has_end, ROWS[34], ROWS[260]]


def messages():
    user = lambda text: {"role": "user", "content": text}
    assistant = lambda text: {"role": "assistant", "content": text}
    def plain(pair, *before):
        return row([*before, user(pair["prompt"])], [assistant(pair["chosen"])], [assistant(pair["rejected"])])
    system = {"role": "system", "content": "You answer in one sentence.\nYou never guess."}
    several = plain(ROWS[24], user("Hello!  "), assistant("  Hello. What would you like to know?"))
    spaces = row([user("\n  Trim me \n")], [assistant(" \tTrimmed.\n\n")], [assistant("Not   trimmed.")])
    special = row([user("What does <|eot_id|> mean?")], [assistant("It ends a turn.")], [assistant("<|eot_id|> nothing — 無.")])
    return ([plain(ROWS[21]), plain(ROWS[22], system), several, spaces, special, plain(ROWS[23]), plain(ROWS[26], system)],
            [plain(HELD_OUT[0]), plain(HELD_OUT[1], system), plain(HELD_OUT[2])])


def long_pairs(source, count, answers):
    """Pairs of `answers` real answers in a row, a different number on each side."""
    def pair(i):
        take = lambda key, n: " ".join(source[(7 * i + k) % len(source)][key] for k in range(n))
        return row(take("prompt", 1 + i), take("chosen", answers + i), take("rejected", answers + 5 - 2 * i))
    return [pair(i) for i in range(count)]


def main():
    train_messages, eval_messages = messages()
    long_train = [*long_pairs(ROWS[100:], 4, 9), row(ROWS[6]["prompt"], "Short.", long_pairs(ROWS[150:], 1, 9)[0]["rejected"])]
    files = {
        "uneven-train": uneven(), "uneven-eval": [HELD_OUT[i] for i in (5, 3, 11, 7, 16)],
        "messages-train": train_messages, "messages-eval": eval_messages,
        "long-train": long_train, "long-eval": long_pairs(HELD_OUT, 3, 8),
        "plain-train": ROWS[40:49], "plain-eval": HELD_OUT[8:12],
        "losses": ROWS[200:218],
    }
    for name, rows in files.items(): write_jsonl(GOLDEN / "data" / f"{name}.jsonl", rows)


if __name__ == "__main__":
    main()
