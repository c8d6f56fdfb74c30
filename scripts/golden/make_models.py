#!/usr/bin/env python3
"""Write the tiny random Llama models that the golden runs train, to test/golden/models/NAME/.

They cover what twin-tiny does not: sizes that are multiples of neither 4 nor 8, head_dim that is not hidden / heads,
multi-head and multi-query attention, tied embeddings, float32 and float16 files, older ways to write config.json.
Initialised wider than usual, with norm weights away from 1, so that the logits are not flat and a mistake shows.
"""
import json, os, shutil
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from golden_io import GOLDEN, TRAIN_ROWS, read_jsonl

SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
LLAMA3_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3_CHAT = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
LLAMA3_ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64}


def make_tokenizer(tokens, chat_template=None):
    """A byte-level BPE tokenizer as Llama 3's: `tokens` without the special ones, whose ids come after."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    corpus = [text for row in read_jsonl(TRAIN_ROWS) for text in (row["prompt"], row["chosen"], row["rejected"])]
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=tokens, special_tokens=[], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_special_tokens(SPECIAL)
    bos = tokenizer.token_to_id(SPECIAL[0])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|> $B", special_tokens=[(SPECIAL[0], bos)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[1], pad_token=SPECIAL[2],
        model_max_length=1024, clean_up_tokenization_spaces=False)
    if chat_template: fast.chat_template = chat_template
    return fast


def make_model(name, seed, tokenizer, dtype, edit_config, max_shard_size="50GB", **sizes):
    """`edit_config(config)` rewrites config.json as an older or a terser writer would have it."""
    torch.manual_seed(seed)
    bos, eos, pad = (tokenizer.convert_tokens_to_ids(token) for token in SPECIAL[:3])
    model = LlamaForCausalLM(LlamaConfig(
        bos_token_id=bos, eos_token_id=eos, pad_token_id=pad, max_position_embeddings=1024, initializer_range=0.15, **sizes))
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("norm.weight"):
            with torch.no_grad(): parameter.copy_(1 + 0.25 * torch.randn(parameter.shape))
    folder = GOLDEN / "models" / name
    shutil.rmtree(folder, ignore_errors=True)
    model.to(dtype).save_pretrained(folder, max_shard_size=max_shard_size)
    tokenizer.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    edit_config(config)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for file in folder.iterdir(): file.chmod(0o644)
    print(name, sum(p.numel() for p in model.parameters()), "parameters,", len(tokenizer), "tokens of", sizes["vocab_size"])


def heads_without_groups(config):
    del config["num_key_value_heads"]                     # absent: as many as query heads


def older_rope(config):
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    config["torch_dtype"] = config.pop("dtype")


def older_rope_derived_head_dim(config):
    older_rope(config)
    del config["head_dim"]                                # absent: hidden_size / num_attention_heads


def main():
    torch.set_num_threads(1)
    make_model("mha-tied", 1, make_tokenizer(395), torch.float32, heads_without_groups,
               vocab_size=401, hidden_size=36, intermediate_size=50, num_hidden_layers=2, num_attention_heads=3,
               num_key_value_heads=3, head_dim=10, rms_norm_eps=1e-6, tie_word_embeddings=True,
               rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    make_model("gqa-llama3", 2, make_tokenizer(480, LLAMA3_CHAT), torch.bfloat16, older_rope, max_shard_size="140KB",
               vocab_size=512, hidden_size=48, intermediate_size=88, num_hidden_layers=3, num_attention_heads=6,
               num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5, tie_word_embeddings=False,
               rope_parameters={"rope_theta": 500000.0, **LLAMA3_ROPE})
    make_model("f16-one-kv", 3, make_tokenizer(300), torch.float16, older_rope_derived_head_dim,
               vocab_size=333, hidden_size=40, intermediate_size=72, num_hidden_layers=1, num_attention_heads=4,
               num_key_value_heads=1, rms_norm_eps=1e-5, tie_word_embeddings=False,
               rope_parameters={"rope_type": "default", "rope_theta": 10000.0})


if __name__ == "__main__":
    main()
