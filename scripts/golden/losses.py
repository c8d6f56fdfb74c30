#!/usr/bin/env python3
"""Golden values for the preference losses: test/train/loss/golden.jsonl and test/train/loss/exact.jsonl.

    pip install torch==2.13.0 trl==1.13.0 transformers==5.18.0 mpmath==1.3.0
    python scripts/golden/losses.py

golden.jsonl: TRL's own DPOTrainer._compute_loss, run in float64 on a stub policy and a stub reference whose logits over
two tokens give chosen per-token log-probabilities, with torch.autograd's gradient of every completion token. Three
edits, each asserted to apply, make it run in float64 and give `sigmoid` its label smoothing back (see EDITS).
A value that is null was not finite in TRL.

exact.jsonl: the formulas of the papers in 800-digit arithmetic with numerical derivatives, independent of TRL and of
torch: what a float64 implementation should return where torch cancels or overflows.

One JSON object a line; the first line says how the file was made.
"""
import inspect, json, math, platform, random, textwrap
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import mpmath as mp
import torch
import transformers
import trl
import trl.trainer.dpo_trainer as dpo_trainer

OUT = Path(__file__).resolve().parents[2] / "test" / "train" / "loss"
torch.set_default_dtype(torch.float64)  # TRL makes exo_pair's epsilon a tensor of the default dtype

EDITS = [
    # cDPO, as TRL 0.9.6 had it; TRL 1.x ignores label_smoothing on sigmoid.
    ("per_sequence_loss = -F.logsigmoid(self.beta * delta_score)",
     "per_sequence_loss = (-F.logsigmoid(self.beta * delta_score) * (1 - self.label_smoothing)"
     " - F.logsigmoid(-self.beta * delta_score) * self.label_smoothing)"),
    # The alpha divergence goes through float32 and has no clamp for float64.
    ("torch.float32: 80.0}[dtype]", "torch.float32: 80.0, torch.float64: 80.0}[dtype]"),
    ("torch.clamp(t_chosen.float(), max=clamp_max)", "torch.clamp(t_chosen, max=clamp_max)"),
    ("torch.clamp(t_rejected.float(), max=clamp_max)", "torch.clamp(t_rejected, max=clamp_max)"),
]


def trl_compute_loss():
    source = textwrap.dedent(inspect.getsource(dpo_trainer.DPOTrainer._compute_loss))
    for old, new in EDITS:
        assert source.count(old) == 1, f"TRL changed: {old!r} occurs {source.count(old)} times"
        source = source.replace(old, new)
    scope = dict(vars(dpo_trainer))
    captured = []

    def selective_log_softmax(logits, index):
        per_token_logps = dpo_trainer.selective_log_softmax(logits, index)
        captured.append(per_token_logps.detach().clone())
        return per_token_logps

    scope["selective_log_softmax"] = selective_log_softmax
    scope["is_peft_model"] = lambda _: False
    scope["disable_gradient_checkpointing"] = lambda *_: nullcontext()
    exec(source, scope)
    return scope["_compute_loss"], captured


COMPUTE_LOSS, CAPTURED = trl_compute_loss()
PROMPT_TOKENS = 2


def logits_of(token_logps):
    """Logits (sides, tokens + 1, 2) over two tokens, of which token 1 gets the given log-probability."""
    other = torch.log(-torch.expm1(token_logps))
    logits = torch.stack([other, token_logps], dim=-1)
    return torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1)


def run_trl(batch, settings):
    """TRL's loss on one micro-batch: (loss, per-token gradients of the chosen, of the rejected)."""
    sides = batch["chosen"] + batch["rejected"]
    length = PROMPT_TOKENS - 1 + max(len(side["policy"]) for side in sides)

    def padded(name):
        rows = torch.full((len(sides), length), -0.5)
        for row, side in zip(rows, sides):
            row[PROMPT_TOKENS - 1 : PROMPT_TOKENS - 1 + len(side[name])] = torch.tensor(side[name])
        return rows

    completion_mask = torch.zeros(len(sides), length + 1, dtype=torch.long)
    for row, side in zip(completion_mask, sides):
        row[PROMPT_TOKENS : PROMPT_TOKENS + len(side["policy"])] = 1
    policy = padded("policy").requires_grad_(True)
    inputs = {"input_ids": torch.ones_like(completion_mask), "attention_mask": torch.ones_like(completion_mask),
              "completion_mask": completion_mask}
    accelerator = SimpleNamespace(device="cpu", gather_for_metrics=lambda x: x, gather=lambda x: x)
    metrics = {mode: dpo_trainer.defaultdict(list) for mode in ("train", "eval")}
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True), accelerator=accelerator, args=SimpleNamespace(
            gradient_checkpointing_kwargs=None, discopop_tau=settings["discopopTau"]),
        ref_model=lambda **_: SimpleNamespace(logits=logits_of(padded("reference"))),
        precompute_ref_logps=False, aux_loss_enabled=False, use_weighting=False, _metrics=metrics,
        _total_train_tokens=0, _tp_size=1, beta=settings["beta"], label_smoothing=settings["labelSmoothing"],
        loss_types=settings["lossTypes"], loss_weights=settings["lossWeights"], ld_alpha=settings["ldAlpha"],
        f_divergence_type=settings["fDivergenceType"], f_alpha_divergence_coef=settings["fAlphaDivergenceCoef"])
    CAPTURED.clear()
    loss = COMPUTE_LOSS(trainer, lambda **_: SimpleNamespace(logits=logits_of(policy)), inputs, False)
    loss.backward()
    gradients = [row[PROMPT_TOKENS - 1 : PROMPT_TOKENS - 1 + len(side["policy"])].tolist()
                 for row, side in zip(policy.grad, sides)]
    return loss.item(), gradients[: len(sides) // 2], gradients[len(sides) // 2 :]


def answer(length, logratio, base, rng):
    """Per-token log-probabilities of an answer whose policy and reference sums differ by logratio."""
    shares = [rng.uniform(0.5, 1.5) for _ in range(length)]
    total = sum(shares)
    lower = [-base * rng.uniform(0.5, 1.5) - 0.1 for _ in range(length)]
    upper = [value + abs(logratio) * share / total for value, share in zip(lower, shares)]
    shift = max(0.0, max(upper) + 0.1)
    lower, upper = [value - shift for value in lower], [value - shift for value in upper]
    return {"policy": upper, "reference": lower} if logratio >= 0 else {"policy": lower, "reference": upper}


def make_batch(seed, logratios, lengths, base=1.0):
    rng = random.Random(seed)
    return {"chosen": [answer(n, a, base, rng) for (a, _), (n, _) in zip(logratios, lengths)],
            "rejected": [answer(n, r, base, rng) for (_, r), (_, n) in zip(logratios, lengths)]}


def make_batches():
    rng = random.Random(7)
    random_pairs = lambda n: [(rng.gauss(0, 2), rng.gauss(0, 2)) for _ in range(n)]
    five = make_batch(3, random_pairs(5), [(4, 2), (1, 5), (3, 3), (6, 1), (2, 4)])
    ties = make_batch(4, random_pairs(5), [(3, 3)] * 5)
    for side in ("chosen", "rejected"):  # pairs 0, 2 and 4 are the same; 1 and 3 differ from each other in the reference
        ties[side][2] = ties[side][4] = ties[side][0]
        ties[side][3] = {"policy": ties[side][1]["policy"], "reference": ties[side][3]["reference"]}
    return {
        "step-1": make_batch(1, [(0.0, 0.0)], [(3, 4)]),
        "one": make_batch(2, random_pairs(1), [(5, 2)]),
        "two": make_batch(5, random_pairs(2), [(7, 3), (2, 6)]),
        "five": five,
        "ties": ties,
        "tiny": make_batch(6, [(1e-8, -1e-8), (-1e-8, 0.0)], [(3, 2), (1, 4)]),
        # No two alike: a tie that rounding breaks, or a difference of two huge scores, has no stable answer.
        "fifty": make_batch(8, [(50.0, -51.0), (-52.0, 53.0), (54.0, 55.0), (-56.0, -57.0), (0.0, 58.0)], [(4, 6)] * 5),
        "thousand": make_batch(9, [(1000.0, -1000.0), (-1000.0, 1000.0)], [(8, 5), (5, 8)]),
    }


def make_cases():
    """(batch name, settings that differ from the defaults)"""
    everywhere = ("step-1", "one", "two", "five", "ties", "tiny", "fifty", "thousand")
    plain = ("sigmoid", "hinge", "ipo", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero",
             "apo_down", "discopop", "sft", "sigmoid_norm")
    for batch in everywhere:
        for beta in (0.1, 0.5):
            for loss_type in plain:
                yield batch, {"lossTypes": [loss_type], "beta": beta}
            yield batch, {"lossTypes": ["exo_pair"], "beta": beta, "labelSmoothing": 1e-3}
    for batch in ("one", "five", "ties", "thousand"):
        for epsilon in (0.1, 0.35):
            for loss_type in ("sigmoid", "robust", "exo_pair", "aot", "aot_unpaired"):
                yield batch, {"lossTypes": [loss_type], "labelSmoothing": epsilon, "beta": 0.3}
    yield "five", {"lossTypes": ["discopop"], "discopopTau": 0.5}
    yield "five", {"lossTypes": ["sigmoid"], "beta": 5.0}
    yield "five", {"lossTypes": ["ipo"], "beta": 0.01}
    yield "five", {"lossTypes": ["ipo"], "fDivergenceType": "alpha_divergence", "fAlphaDivergenceCoef": 1.0 + 9e-7}
    divergences = [("forward_kl", 0.5), ("js_divergence", 0.5)] + [("alpha_divergence", a) for a in (0.5, 0.0, 2.0, 1.0)]
    for divergence, coefficient in divergences:
        for loss_type in ("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop"):
            for batch in ("two", "five"):
                yield batch, {"lossTypes": [loss_type], "fDivergenceType": divergence, "fAlphaDivergenceCoef": coefficient,
                              "labelSmoothing": 0.1 if loss_type in ("exo_pair", "robust") else 0.0}
    for batch in ("tiny", "fifty", "thousand"):
        for divergence, coefficient in divergences:
            yield batch, {"lossTypes": ["sigmoid"], "fDivergenceType": divergence, "fAlphaDivergenceCoef": coefficient}
    for divergence in ("forward_kl", "js_divergence", "alpha_divergence"):
        yield "five", {"lossTypes": ["sigmoid", "sft"], "lossWeights": [1.0, 0.3], "fDivergenceType": divergence}
    for alpha in (0.0, 0.3, 1.0):
        for loss_type in ("sigmoid", "ipo", "sigmoid_norm", "aot", "apo_zero"):
            yield "five", {"lossTypes": [loss_type], "ldAlpha": alpha}
        yield "two", {"lossTypes": ["sigmoid", "sft"], "lossWeights": [1.0, 0.5], "ldAlpha": alpha}
        yield "two", {"lossTypes": ["sigmoid"], "fDivergenceType": "js_divergence", "ldAlpha": alpha}
    yield "five", {"lossTypes": ["sigmoid", "bco_pair", "sft"], "lossWeights": [0.8, 0.2, 1.0]}
    yield "ties", {"lossTypes": ["aot", "robust"], "lossWeights": [0.25, 2.0], "labelSmoothing": 0.2}
    yield "five", {"lossTypes": ["hinge", "ipo"], "lossWeights": [1.0, 1.0]}


DEFAULTS = {"beta": 0.1, "labelSmoothing": 0.0, "discopopTau": 0.05, "lossWeights": [1.0], "fDivergenceType": "reverse_kl",
            "fAlphaDivergenceCoef": 0.5, "ldAlpha": None}


def finite(value):
    if isinstance(value, list):
        return [finite(item) for item in value]
    return value if math.isfinite(value) else None


def as_seen_by_trl(batch, policy, reference):
    """The batch with the per-token log-probabilities that TRL computed from the logits, to the last bit."""
    count = len(batch["chosen"])
    def side(rows, offset):
        return [{"policy": policy[i + offset][PROMPT_TOKENS - 1 :][: len(row["policy"])].tolist(),
                 "reference": reference[i + offset][PROMPT_TOKENS - 1 :][: len(row["policy"])].tolist()}
                for i, row in enumerate(rows)]
    return {"chosen": side(batch["chosen"], 0), "rejected": side(batch["rejected"], count)}


def golden_lines():
    batches, cases, seen = make_batches(), [], {}
    for name, overrides in make_cases():
        settings = DEFAULTS | overrides
        loss, chosen, rejected = run_trl(batches[name], settings)
        seen[name] = as_seen_by_trl(batches[name], *CAPTURED)
        cases.append({"batch": name, "settings": settings, "loss": finite(loss), "gradChosen": finite(chosen),
                      "gradRejected": finite(rejected)})
    yield {"made_by": "scripts/golden/losses.py", "torch": torch.__version__, "trl": trl.__version__,
           "transformers": transformers.__version__, "python": platform.python_version(), "dtype": "float64", "device": "cpu"}
    yield {"batches": seen}
    yield from cases


# --- exact.jsonl ------------------------------------------------------------------------------------------------------

mp.mp.dps = 800  # e^-1600, the smallest term that matters at the points below, still has hundreds of digits
log_sigmoid = lambda x: -mp.log1p(mp.exp(-x))
sig = lambda x: 1 / (1 + mp.exp(-x))


def formulas(beta, eps, tau, n_c, n_r):
    """Every per-pair loss as a function of the two log-ratios, as its paper prints it."""
    cdpo = lambda x: -(1 - eps) * log_sigmoid(x) - eps * log_sigmoid(-x)
    return {
        "sigmoid": lambda a, r: cdpo(beta * (a - r)),
        "hinge": lambda a, r: mp.mpf(max(0, 1 - beta * (a - r))),
        "ipo": lambda a, r: (a / n_c - r / n_r - 1 / (2 * beta)) ** 2,
        "sigmoid_norm": lambda a, r: -log_sigmoid(beta * (a / n_c - r / n_r)),
        "robust": lambda a, r: (-(1 - eps) * log_sigmoid(beta * (a - r)) + eps * log_sigmoid(-beta * (a - r))) / (1 - 2 * eps),
        "exo_pair": lambda a, r: sig(beta * (a - r)) * (log_sigmoid(beta * (a - r)) - mp.log(1 - eps))
        + sig(-beta * (a - r)) * (log_sigmoid(-beta * (a - r)) - mp.log(eps)),
        "nca_pair": lambda a, r: -log_sigmoid(beta * a) - log_sigmoid(-beta * a) / 2 - log_sigmoid(-beta * r) / 2,
        "bco_pair": lambda a, r: -log_sigmoid(beta * a) - log_sigmoid(-beta * r),
        "sppo_hard": lambda a, r: (a - 1 / (2 * beta)) ** 2 + (r + 1 / (2 * beta)) ** 2,
        "apo_zero": lambda a, r: 1 - sig(beta * a) + sig(beta * r),
        "apo_down": lambda a, r: sig(beta * a) + 1 - sig(beta * (a - r)),
        "discopop": lambda a, r: -log_sigmoid(beta * (a - r)) * (1 - sig(beta * (a - r) / tau))
        + mp.exp(-beta * (a - r)) * sig(beta * (a - r) / tau),
    }


def divergences():
    """Every f-divergence score as a function of the log-ratio."""
    yield "forward_kl", 0.5, lambda a: 1 - mp.exp(-a)
    yield "js_divergence", 0.5, lambda a: mp.log(2) + log_sigmoid(a)
    for coefficient in (0.5, 0.0, 2.0, 3.0, 1.0 + 2.0**-10):
        power = mp.mpf(coefficient) - 1
        yield "alpha_divergence", coefficient, lambda a, power=power: (mp.exp(min(power * a, 80)) - 1) / power


def slope(function, at):
    return mp.diff(function, at, h=mp.mpf(10) ** -390, relative=False)


# Powers of two and small multiples of them: every difference and product that leads to an exponent is exact in float64.
LOG_RATIOS = [(0, 0), (2.0**-27, -(2.0**-27)), (0.75, -1.5), (-2.25, 0.5), (3, 3), (48, -56), (-48, 56), (-64, -32),
              (1024, -960), (-1024, 960), (640, 1024), (-640, -1024), (10240, -10240), (-10240, 10240)]


def exact_lines():
    yield {"made_by": "scripts/golden/losses.py", "mpmath": mp.__version__, "digits": mp.mp.dps}
    for beta, eps, tau, n_c, n_r in ((0.125, 0.25, 0.0625, 4, 2), (0.5, 0.125, 0.25, 1, 8)):
        for name, loss in formulas(mp.mpf(beta), mp.mpf(eps), mp.mpf(tau), n_c, n_r).items():
            for a, r in LOG_RATIOS:
                yield {"loss": name, "beta": beta, "labelSmoothing": eps, "discopopTau": tau, "lengths": [n_c, n_r],
                       "logratios": [a, r], "value": float(loss(mp.mpf(a), mp.mpf(r))),
                       "gradChosen": float(slope(lambda x: loss(x, mp.mpf(r)), mp.mpf(a))),
                       "gradRejected": float(slope(lambda x: loss(mp.mpf(a), x), mp.mpf(r)))}
    for name, coefficient, score in divergences():
        for a in (0, 2.0**-27, -(2.0**-27), 0.75, -2.25, 48, -48, 144, -144, 640, -640):
            yield {"divergence": name, "coefficient": coefficient, "logratio": a, "score": float(score(mp.mpf(a))),
                   "slope": float(slope(score, mp.mpf(a)))}
    for x in (0, 2.0**-60, 2.0**-27, 0.75, 1, 20, 36.75, 37, 40, 700, 708, 745, 1e3, 1e4):
        for signed in (x, -x):
            yield {"x": signed, "sigmoid": float(sig(mp.mpf(signed))), "logSigmoid": float(log_sigmoid(mp.mpf(signed)))}


def write(name, lines):
    with open(OUT / name, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, allow_nan=False) + "\n")


if __name__ == "__main__":
    write("golden.jsonl", golden_lines())
    write("exact.jsonl", exact_lines())
