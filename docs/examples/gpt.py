"""A small GPT over a data set of tokens: learns, samples, and has the samples decoded.

    python gpt.py TOKENS --steps 1000 --output samples.png

It reads what `vqtok tokenize` wrote, holds a part of the pictures out, and says how its loss
compares to the entropy of the codes, which is what a model that knows how often each code comes up,
and nothing else, would reach. It is a page of plain torch, to be taken apart.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok import VisualTokenizer
from vqtok.offline import TokenSet, open_tokens
from vqtok.sheets import gallery


class Block(nn.Module):
    """Causal attention and two linear layers, each behind a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, W) -> (B, L, W)."""
        batch, length, width = x.shape
        qkv = self.qkv(self.norms[0](x)).view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norms[1](x))


class GPT(nn.Module):
    """Codes in the order of rows; what is before the first one is a token of its own."""

    def __init__(self, codes: int, length: int, width: int, depth: int) -> None:
        super().__init__()
        self.begin = codes
        self.embed = nn.Embedding(codes + 1, width)
        self.place = nn.Parameter(torch.randn(length, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, width // 32) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, codes)
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, L) codes, of which the last may be missing -> (B, L, K), for each the next one."""
        before = F.pad(ids, (1, 0), value=self.begin)[:, : len(self.place)]
        x = self.embed(before) + self.place[: before.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(x)))
        return logits

    @torch.no_grad()
    def sample(self, count: int, temperature: float, generator: torch.Generator) -> Tensor:
        """Codes (count, L), one after the other."""
        ids = torch.empty(count, 0, dtype=torch.long)
        for _ in range(len(self.place)):
            chances = F.softmax(self(ids)[:, -1] / temperature, -1)
            ids = torch.cat([ids, torch.multinomial(chances, 1, generator=generator)], 1)
        return ids


def split(tokens: TokenSet, share: float) -> tuple[Tensor, Tensor]:
    """Codes (N, L) to learn from and to validate on.

    A row's side hangs on the hash of its key, or of key and view where there are few pictures.
    """
    rows = list(tokens)
    few = len({row.key for row in rows}) < 1 / share
    names = [f"{row.key}#{row.view}" if few else row.key for row in rows]
    digests = [hashlib.sha256(name.encode()).digest()[:4] for name in names]
    held = np.array([int.from_bytes(digest, "big") < share * 2**32 for digest in digests])
    codes = np.stack([row.codes.reshape(-1) for row in rows]).astype(np.int64)
    return torch.from_numpy(codes[~held]), torch.from_numpy(codes[held])


def batches(codes: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Rows in a new order each time round, for ever."""
    while True:
        for rows in torch.randperm(len(codes), generator=generator).split(size):
            yield codes[rows]


def entropy(learned: Tensor, validated: Tensor, codes: int) -> float:
    """Nats a code that the frequencies of one set (each at least one) cost on the other."""
    counts = torch.bincount(learned.flatten(), minlength=codes).double() + 1
    return float(-(counts / counts.sum()).log()[validated].mean())


def loss_of(model: GPT, ids: Tensor) -> Tensor:
    """Nats a code."""
    return F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())


@torch.no_grad()
def validate(model: GPT, ids: Tensor, size: int) -> float:
    """Nats a code over a whole set."""
    parts = [(loss_of(model, part) * len(part)).item() for part in ids.split(size)]
    return sum(parts) / len(ids)


def learn(model: GPT, learned: Tensor, options: argparse.Namespace) -> None:
    """Trains with a rate that rises over the first steps and falls to nothing with the last."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.05)
    endless = batches(learned, options.batch, torch.Generator().manual_seed(options.seed))
    for step, ids in enumerate(islice(endless, options.steps)):
        falling = math.cos(step / options.steps * math.pi / 2)
        optimizer.param_groups[0]["lr"] = options.rate * min(1, (step + 1) / 20) * falling
        loss = loss_of(model, ids)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step:5d}  loss {loss.item():.3f}", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokens", help="what `vqtok tokenize` wrote")
    parser.add_argument("--tokenizer", default="photo-tiny", help="which decodes the samples")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--held-out", type=float, default=0.05, help="a share of the pictures")
    parser.add_argument("--temperature", type=float, default=0.9)
    parser.add_argument("--samples", type=int, default=16, help="a multiple of 4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("samples.png"))
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.manual_seed(options.seed)
    tok = VisualTokenizer.from_pretrained(options.tokenizer)
    tokens = open_tokens(options.tokens, expect=tok)
    grid = tokens[0].grid
    learned, validated = split(tokens, options.held_out)
    bound = entropy(learned, validated, tok.codebook_size)
    print(f"{len(learned)} rows to learn from, {len(validated)} held out, {learned.shape[1]} codes")

    model = GPT(tok.codebook_size, learned.shape[1], options.width, options.depth)
    learn(model, learned, options)
    loss = validate(model.eval(), validated, options.batch)
    print(f"after {options.steps} steps: validation loss {loss:.3f} nats a code")
    print(f"a model that knows how often each code comes up has {bound:.3f}")

    generator = torch.Generator().manual_seed(options.seed)
    ids = model.sample(options.samples, options.temperature, generator)
    pictures = tok.decode_codes(ids.view(-1, *grid), output_type="np")
    Image.fromarray(gallery([pictures[n::4] for n in range(4)])).save(options.output)
    print(f"{len(pictures)} samples in {options.output}")


if __name__ == "__main__":
    main()
