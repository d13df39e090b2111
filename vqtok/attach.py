"""Visual ids in a language model's vocabulary: a range of integers behind the text's.

No strings are added for codes. Sixteen thousand of them would cost seconds at each load of the
text tokenizer; a range costs nothing, and text can never be split into one by accident.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vqtok.errors import InputError
from vqtok.vocab import VisualVocab

__all__ = ["CONTROLS", "attach"]

# The ids that structure a picture are real tokens of the text tokenizer: prompts name them.
CONTROLS = {"boi": "<|boi|>", "eoi": "<|eoi|>", "eol": "<|eol|>", "eof": "<|eof|>"}
# Rows of an embedding table in multiples that matrix units like.
MULTIPLE = 64


def attach(vocab: VisualVocab, text_tokenizer: Any, lm: Any = None) -> VisualVocab:
    """`vocab`, moved behind the vocabulary of `text_tokenizer`.

    Adds the control tokens to the text tokenizer. With `lm`, a transformers model, makes its
    embeddings (V, H) and output rows large enough; new rows start at the mean of the old ones with
    a little noise.

    The text tokenizer must not grow afterwards: its next token would get the id of code 0. All
    three are saved, each by its own `save_pretrained`.
    """
    text_tokenizer.add_tokens(list(CONTROLS.values()), special_tokens=True)
    ids = {name: text_tokenizer.convert_tokens_to_ids(text) for name, text in CONTROLS.items()}
    pad = text_tokenizer.pad_token_id
    moved = replace(
        vocab, offset=len(text_tokenizer), pad=ids["eoi"] if pad is None else pad, **ids
    )
    if lm is not None:
        _widen(lm, moved.size)
    return moved


def _widen(lm: Any, size: int) -> None:
    import torch

    table = lm.get_input_embeddings()
    if table is None:
        raise InputError(f"{type(lm).__name__} has no input embeddings to widen")
    old = table.weight.shape[0]
    if size <= old:
        return
    # mean_resizing draws the new rows from the covariance of the old ones: minutes, for nothing
    # that the mean and a little noise would not do.
    lm.resize_token_embeddings(size, mean_resizing=False, pad_to_multiple_of=MULTIPLE)
    heads = {
        id(t.weight): t.weight
        for t in (lm.get_input_embeddings(), lm.get_output_embeddings())
        if t is not None
    }
    for weight in heads.values():
        with torch.no_grad():
            known = weight[:old]
            noise = torch.randn_like(weight[old:]) * known.std() * 0.02
            weight[old:] = known.mean(0) + noise
