#!/usr/bin/env python3
"""Golden numbers of word distributions, to test/golden/style.json.

    pip install numpy==2.4.6 scipy==1.16.3
    python scripts/golden/style.py

Counts of words in chosen and rejected answers of the example rows, with scipy's Jensen-Shannon distance in base 2; the
log-odds ratio with an informative Dirichlet prior of Monroe, Colaresi and Quinn (2008), written out here by their
equations with numpy; and numpy's quantiles.
"""
import re
from collections import Counter

import numpy
import scipy
from scipy.spatial.distance import jensenshannon

from golden_io import GOLDEN, TEST_ROWS, read_jsonl, write_json

PRIOR_WORDS = 500


def log_odds(first, second):
    """z-scores of all words: equations 16 (log-odds with prior), 20 (variance), 21 (z), and 23 (the prior's scale)."""
    total, other_total = first.sum(), second.sum()
    pooled = first + second
    prior_total = min(PRIOR_WORDS, pooled.sum())
    prior = prior_total * pooled / pooled.sum()
    omega = (first + prior) / (total + prior_total - first - prior)
    other_omega = (second + prior) / (other_total + prior_total - second - prior)
    delta = numpy.log(omega) - numpy.log(other_omega)
    return delta, delta / numpy.sqrt(1 / (first + prior) + 1 / (second + prior))


def case(first, second):
    words = sorted(set(first) | set(second))
    counts = [numpy.array([group[word] for word in words], dtype=float) for group in (first, second)]
    delta, z = log_odds(*counts)
    return {
        "words": words,
        "first": [int(n) for n in counts[0]],
        "second": [int(n) for n in counts[1]],
        "distance": float(jensenshannon(*counts, base=2)),
        "log_odds": delta.tolist(),
        "z": z.tolist(),
    }


def words_of(texts):
    return Counter(word for text in texts for word in re.findall(r"[a-z']+", text.lower()))


rows = read_jsonl(TEST_ROWS)[:6]
random = numpy.random.default_rng(0)
values = random.normal(size=23).round(6).tolist()
shares = [0.0, 0.025, 0.1, 0.5, 0.9, 0.975, 1.0]
write_json(GOLDEN / "style.json", {
    "versions": {"numpy": numpy.__version__, "scipy": scipy.__version__},
    "cases": {
        "chosen against rejected": case(words_of(row["chosen"] for row in rows), words_of(row["rejected"] for row in rows)),
        "few words": case(Counter(a=3, b=1), Counter(a=1, c=5)),
        "no word in common": case(Counter(a=2, b=2), Counter(c=1, d=7)),
        "equal shares": case(Counter(a=2, b=4), Counter(a=3, b=6)),
    },
    "quantiles": {"values": values, "shares": shares, "quantiles": numpy.quantile(values, shares).tolist()},
})
