"""Networks that tell pictures from reconstructions: one file each.

`forward(x)` maps pixels (B, C, H, W) or (B, C, T, H, W) in [-1, 1] to logits, high for pictures;
`forward(x, features=True)` returns these and what the layers before made, a list. Networks of
pictures take the frames of a clip as a batch. No layer looks at other pictures of the batch, which
would make training depend on the number of processes. A network that must, since it goes on from
one that did, judges `parts` of the batch each by itself: pictures apart from reconstructions.
`check_side(side)` is an `ImageError` where squares of that side are none that it takes.
"""

from __future__ import annotations

from torch import Tensor, nn

from vqtok.errors import ImageError
from vqtok.registry import Registry

__all__ = ["DISCRIMINATORS", "as_frames"]

DISCRIMINATORS: Registry[type[nn.Module]] = Registry("discriminator", __name__)


def as_frames(x: Tensor, name: str) -> Tensor:
    """(B, C, H, W) as it is; (B, C, T, H, W) -> (B T, C, H, W), the frames of a clip together.

    `name` is the discriminator's, for the complaint about other shapes.
    """
    if x.ndim not in (4, 5):
        raise ImageError(
            f"the discriminator {name} takes pictures (B, C, H, W) or clips (B, C, T, H, W); got "
            f"{tuple(x.shape)}"
        )
    return x if x.ndim == 4 else x.transpose(1, 2).flatten(0, 1)
