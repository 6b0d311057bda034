"""Folders of Hugging Face's `transformers`: `config.json` beside safetensors.

`load_bert(folder) -> (cfg, params)` and `save_bert(folder, cfg, params)`; the names of the tensors
stand in `jaxml.models.bert_weights`.
"""

from jaxml.models.bert_weights import load as load_bert
from jaxml.models.bert_weights import save as save_bert

__all__ = ["load_bert", "save_bert"]
