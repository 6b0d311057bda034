"""Hugging Face's cached beam search at the decoder's size; one line a run: its seconds."""

import json
import sys
import time

import torch
import transformers
from transformers import BertConfig, BertLMHeadModel
from transformers.modeling_outputs import BaseModelOutput

case = json.loads(sys.argv[1])
device = "cuda" if torch.cuda.is_available() else "cpu"
sizes = {
    "vocab_size": case["vocab"], "hidden_size": case["width"],
    "num_attention_heads": case["heads"], "intermediate_size": case["hidden"],
}  # fmt: skip
decoder = BertConfig(
    **sizes, num_hidden_layers=case["layers"], is_decoder=True, add_cross_attention=True
)
encoder = BertConfig(**sizes, num_hidden_layers=1)
torch.manual_seed(0)
model = transformers.EncoderDecoderModel(
    encoder=transformers.BertModel(encoder), decoder=BertLMHeadModel(decoder)
)
model = model.to(device).eval()
memory = torch.randn(case["num"], case["memory"], case["width"], device=device)
mask = torch.ones(case["num"], case["memory"], dtype=torch.long, device=device)


@torch.no_grad()
def run():
    """One search; the encoder's output is given, so that it costs nothing."""
    begun = time.perf_counter()
    model.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=memory), attention_mask=mask,
        decoder_start_token_id=101, pad_token_id=0, eos_token_id=None, bos_token_id=101,
        num_beams=case["beams"], min_new_tokens=case["steps"], max_new_tokens=case["steps"],
        do_sample=False, use_cache=True,
    )  # fmt: skip
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


run()
print(f"transformers {transformers.__version__} generate, {device}", flush=True)
for line in sys.stdin:
    if line.strip() == "run":
        print(run(), flush=True)
