"""What a run is: every setting, its default and its meaning. YAML files and `--set` fill it in."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "BROUGHT",
    "Alignment",
    "Anneal",
    "Data",
    "Discriminator",
    "Loss",
    "Optimizer",
    "Part",
    "Settings",
]

# What a tokenizer to go on from has already.
BROUGHT = ("architecture", "network", "quantizer", "codebook", "anneal")


class Part(BaseModel):
    """Frozen; an unknown key or a value of another type is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Data(Part):
    """Which pictures or clips, and what becomes of one before the network sees it.

    path            a folder, tar files, parquet files, an array file (.npy); or several of them;
                    in a file also <samples>, the photographs in the package
    kind            a name of `vqtok.sources.SOURCES`, where the path does not tell
    validation      the same for the pictures to validate on; without it keys of `path` are held out
    hold_out        how many are validated on, those whose keys have the smallest sha256; by
                    default 1 in 20 of `path` or all of `validation`, but no more than 1,000
    size            side of the square that the network is trained on
    resize          "short": the short side becomes `size` (or `scale` times it) before the crop;
                    "none": the crop is taken from the picture as it is, and what is too small is
                    enlarged until it fits
    crop, flip      where the square is cut, and whether half of the pictures are mirrored
    frames, stride  of a clip: how many frames, and every which one
    """

    path: str | list[str] | None = None
    kind: str | None = None
    validation: str | list[str] | None = None
    hold_out: int | None = Field(default=None, ge=0)
    size: int = Field(default=256, ge=1)
    resize: Literal["short", "none"] = "short"
    scale: float = Field(default=1.0, ge=1)
    filter: Literal["bicubic", "bilinear"] = "bicubic"
    crop: Literal["random", "center"] = "random"
    flip: bool = True
    pad: int = Field(default=0, ge=0)  # pixels mirrored onto each side before the crop
    frames: int = Field(default=1, ge=1)
    stride: int = Field(default=1, ge=1)
    workers: int = Field(default=4, ge=0)


class Optimizer(Part):
    """Steps of one network's parameters.

    warm_up   steps over which the rate rises from 0
    schedule  what follows: "constant"; "cosine" or "linear" fall to `end` * lr at `decay_steps`
    """

    name: Literal["adam", "adamw"] = "adamw"
    lr: float = Field(default=1e-4, gt=0)
    betas: list[float] = Field(default=[0.9, 0.99], min_length=2, max_length=2)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=1.0, gt=0)
    warm_up: int = Field(default=0, ge=0)
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    decay_steps: int | None = Field(default=None, ge=1)  # by default the length of the run
    end: float = Field(default=0.0, ge=0, le=1)


class Discriminator(Part):
    """A second network that learns to tell reconstructions from pictures.

    name, args  a name of `DISCRIMINATORS`, and its own settings; without any, those of the one that
                a tokenizer named by `init` keeps, which is then gone on from
    loss        a name of `GAN_LOSSES`
    weight      of the generator's share; with `adaptive` that times the ratio of gradients at the
                decoder's last layer, as in taming-transformers
    start       the optimizer step at which reconstructions begin to answer to it
    warm_up     steps before `start` in which it already learns
    ramp        steps over which `weight` then rises from 0
    r1, every   weight of the gradient penalty on pictures, taken each `r1_every` steps
    """

    name: str = "patchgan"
    args: dict[str, Any] = {}
    loss: str = "hinge"
    weight: float = Field(default=0.1, ge=0)
    adaptive: bool = False
    start: int = Field(default=0, ge=0)
    warm_up: int = Field(default=0, ge=0)
    ramp: int = Field(default=0, ge=0)
    lecam: float = Field(default=0.0, ge=0)
    lecam_decay: float = Field(default=0.999, ge=0, lt=1)
    r1: float = Field(default=0.0, ge=0)
    r1_every: int = Field(default=16, ge=1)
    feature_matching: float = Field(default=0.0, ge=0)
    optimizer: Optimizer = Optimizer()


class Alignment(Part):
    """Draws latents towards the features of a frozen network, as in VA-VAE.

    teacher  "package.module:function"; the function returns a module from pixels (B, C, H, W) in
             [-1, 1] to features (B, F, h, w)
    """

    teacher: str
    weight: float = Field(default=0.1, ge=0)
    margin: float = 0.25
    cosine_margin: float = 0.5


class Loss(Part):
    """What the autoencoder is trained on; a discriminator and the quantizer's own come on top.

    pixel    weights by names of `PIXEL_LOSSES`
    lpips    weight of LPIPS; `lpips_net` "vgg" or "alex", its weights by path, else as
             `vqtok.metrics.weights` finds them
    entropy  weight of H(code | token) - H(code) over softmax(-distance / temperature)
    """

    pixel: dict[str, float] = {"l1": 1.0}
    lpips: float = Field(default=0.0, ge=0)
    lpips_net: Literal["vgg", "alex"] = "vgg"
    lpips_weights: str | None = None
    entropy: float = Field(default=0.0, ge=0)
    entropy_temperature: float = Field(default=0.01, gt=0)
    align: Alignment | None = None


class Anneal(Part):
    """A number of the quantizer that falls, along half a cosine, from one value to another.

    A file may leave out `steps`: they are then those of the run.
    """

    start: float
    end: float
    steps: int = Field(ge=1)


class Settings(Part):
    """A whole run.

    architecture    a name of `vqtok.autoencoders.AUTOENCODERS`; `network` holds its settings, of
                    which sample_size and sample_frames follow `data` where nobody names them
    codebook        size, dim, and the quantizer's own settings
    anneal          buffers of the quantizer by name, such as Gumbel's temperature
    init            a tokenizer to go on from: a folder, a name in the package, a hub id, or another
                    project's checkpoint (its file, a folder with it, or a name of
                    `vqtok.zoo.aliases`), which is converted; one that needs settings, a family or
                    the name of a file is to be converted before (`vqtok convert`). Its network,
                    codebook and quantizer stand; `freeze` names parts that stay as they are
    batch_size      pictures an optimizer step, over all processes and micro-batches
    accumulate      micro-batches an optimizer step, in each process
    steps           optimizer steps of the run
    precision       "auto" is bf16 on a GPU that has it, and no autocast elsewhere
    average         decay of the running mean of the weights that validation and the final
                    tokenizer use; 0 is none
    on_collapse     whether a collapsing codebook, NaN or infinity warns or stops the run
    keep            checkpoints that stay, beside the best
    """

    name: str = "run"
    architecture: str = "cnn"
    network: dict[str, Any] = {}
    quantizer: str = "vector"
    codebook: dict[str, Any] = {}
    estimator: str | None = None
    estimator_args: dict[str, Any] = {}
    anneal: dict[str, Anneal] = {}
    init: str | None = None
    freeze: list[Literal["encoder", "codebook", "decoder"]] = []

    data: Data = Data()
    loss: Loss = Loss()
    discriminator: Discriminator | None = None
    optimizer: Optimizer = Optimizer()

    batch_size: int = Field(default=32, ge=1)
    accumulate: int = Field(default=1, ge=1)
    steps: int = Field(default=100_000, ge=1)
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    seed: int = 0
    average: float = Field(default=0.0, ge=0, lt=1)
    compile: bool = False
    deterministic: bool = False

    log_every: int = Field(default=50, ge=1)
    validate_every: int = Field(default=1000, ge=1)
    save_every: int = Field(default=1000, ge=1)
    keep: int = Field(default=2, ge=1)
    trackers: list[str] = []
    on_collapse: Literal["warn", "stop"] = "warn"

    discrepancies: list[str] = []

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        """A complaint begins with the key that it is about."""
        if self.init is None:
            self._check_codebook()
            self.network.setdefault("sample_size", self.data.size)
            if self.data.frames > 1:
                self.network.setdefault("sample_frames", self.data.frames)
            return self
        default = {name: Settings.model_fields[name].default for name in BROUGHT}
        given = [name for name in BROUGHT if getattr(self, name) != default[name]]
        if given:
            raise ValueError(
                f"{given[0]} is that of the tokenizer which init names, and stays; leave it out"
            )
        return self

    def _check_codebook(self) -> None:
        for name, least in (("size", 2), ("dim", 1)):
            value = self.codebook.get(name, least)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(
                    f"codebook.{name} is a whole number of at least {least}; got {value!r}"
                )
