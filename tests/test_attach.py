"""Visual ids behind a text vocabulary, and a language model that writes pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch

from vqtok.attach import attach
from vqtok.errors import CodesError
from vqtok.vocab import VisualVocab


@pytest.fixture
def text() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "cat": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")


@pytest.fixture
def lm(text: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(text),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=64,
        )
    ).eval()


def test_codes_follow_the_text(text: Any) -> None:
    vocab = attach(VisualVocab(64), text)
    assert len(text) == 3 + 4  # four controls are tokens of the text, no code is
    assert vocab.offset == len(text)
    assert vocab.boi == text.convert_tokens_to_ids("<|boi|>")
    assert vocab.pad == vocab.eoi  # the text tokenizer has no padding of its own
    assert vocab.size == 7 + 64
    text.add_special_tokens({"pad_token": "<pad>"})
    again = attach(VisualVocab(64), text)
    assert again.pad == text.pad_token_id


def test_embeddings_are_widened_once(text: Any, lm: Any) -> None:
    before = lm.get_input_embeddings().weight.detach().clone()
    vocab = attach(VisualVocab(64), text, lm)
    after = lm.get_input_embeddings().weight
    assert after.shape[0] == lm.get_output_embeddings().weight.shape[0] == 128
    assert torch.equal(after[: len(before)], before)
    new = after[len(before) :]
    assert (new - before.mean(0)).abs().max() < 0.2 * before.std()
    attach(vocab, text, lm)
    assert lm.get_input_embeddings().weight.shape[0] == 128


def test_a_model_writes_a_picture(text: Any, lm: Any) -> None:
    tok = tiny.tokenizer().attach(text, lm)
    prompt = text("a cat <|boi|>", return_tensors="pt").input_ids
    written = lm.generate(
        prompt,
        max_new_tokens=3 * 6 + 1,
        do_sample=True,
        pad_token_id=tok.pad_token_id,
        eos_token_id=tok.eoi_token_id,
        prefix_allowed_tokens_fn=tok.prefix_allowed_tokens_fn((3, 5), prompt.shape[1]),
    )
    image = tok.decode(written[0, prompt.shape[1] :])
    assert image.size == (5 * tiny.STRIDE, 3 * tiny.STRIDE)


def test_text_ids_are_no_codes(text: Any) -> None:
    tok = tiny.tokenizer().attach(text)
    ids = tok.encode(np.zeros((16, 16, 3), np.uint8))
    assert min(ids[1:5]) >= len(text)
    ids[1] = 2
    with pytest.raises(CodesError, match=r"id 2 at position 1"):
        tok.decode(ids)
