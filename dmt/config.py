"""Configurations: frozen dataclasses, composed top-down, saved inside every checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .errors import InputError, brief


@dataclass(frozen=True)
class SpeechConfig:
    """wav2vec 2.0. Defaults: the large XLSR-53 model that DreamTalk uses."""

    pretrained: str | None = "jonatasgrosman/wav2vec2-large-xlsr-53-english"
    """Hub name or folder of weights kept outside our checkpoint; None: weights are in the checkpoint."""
    width: int = 1024
    layers: int = 24
    heads: int = 16
    feed_forward: int = 4096
    conv_width: int = 512
    positional_groups: int = 16
    positional_kernel: int = 128
    whole_clip_seconds: float = 60.0
    """Up to this length the clip is encoded at once, as DreamTalk does; beyond it in chunks."""
    chunk_seconds: float = 20.0
    context_seconds: float = 4.0
    """Extra audio on each side of a chunk whose features are thrown away."""


@dataclass(frozen=True)
class TacotronConfig:
    """Tacotron-style encoder: conv bank and BiLSTM over the log-mel, or over text."""

    width: int = 512
    mels: int = 80
    conv_width: int = 512
    conv_layers: int = 3
    kernel: int = 5
    alphabet: str = ""
    """Lower-case characters the branch can read (with the space); empty: it reads the log-mel only."""


@dataclass(frozen=True)
class SparsityConfig:
    """Dynamic thresholds (eq. 5-7) and the information constraint (eq. 8-10)."""

    enabled: bool = True
    initial_threshold: float = 0.1
    """theta' = sigmoid(theta) at the start, in (0, 1)."""
    alpha: float = 0.9
    per_feature: bool = False
    time_buckets: int = 1
    """One EMA per bucket of diffusion time; 1 shares a single EMA."""
    reach: Literal["feed_forward", "decoders"] = "feed_forward"
    """feed_forward: at the feed-forward layers of encoders and decoders; decoders: also at every projection of the
    decoders' attention, at their tails and at what makes their memory."""
    tail_threshold: float = 0.2
    """theta' at the start in the tails, around whose masks no residual passes."""


@dataclass(frozen=True)
class DenoiserConfig:
    """Sizes of the denoiser: its two encoders, its decoders and the last layers of both regions."""

    width: int = 256
    heads: int = 8
    feed_forward: int = 1024
    content_layers: int = 3
    style_layers: int = 3
    decoder_layers: int = 3
    tail_width: int = 128
    dropout: float = 0.1
    decoder: Literal["plain", "styletalk", "dynamic"] = "dynamic"
    """plain: DreamTalk's released decoders; styletalk: its dynamic-linear variant
    (both regions follow the style code); dynamic: the paper's (upper follows style,
    lower follows sound)."""
    shared_matrices: int = 8
    temperature: float = 30.0
    reduction: int = 4


@dataclass(frozen=True)
class DiffusionConfig:
    """The noise schedule (linear betas over `steps` times, eq. 1-2) and what the network predicts."""

    steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    prediction: Literal["x0", "noise"] = "x0"
    style_dropout: float = 0.1
    """Share of training clips whose style is replaced by the null style."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build a model; `preset(name)` gives the three we name."""

    name: str = "dmt"
    speech: SpeechConfig = field(default_factory=SpeechConfig)
    tacotron: TacotronConfig | None = field(default_factory=TacotronConfig)
    """None: no Tacotron branch and no fusion; the denoiser reads wav2vec alone."""
    sparsity: SparsityConfig = field(default_factory=SparsityConfig)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    normalised: bool = False
    """The diffusion runs on (coefficients - mean) / std kept as buffers; False: raw, as DreamTalk."""


def preset(name: str) -> ModelConfig:
    """The configuration called `dreamtalk` (plain), `dmt` (the paper, full width) or `demo` (small, bundled)."""
    if name == "dmt":
        return ModelConfig(tacotron=TacotronConfig(alphabet=" '-abcdefghijklmnopqrstuvwxyz"))
    if name == "dreamtalk":
        return ModelConfig(
            name="dreamtalk",
            tacotron=None,
            sparsity=SparsityConfig(enabled=False),
            denoiser=DenoiserConfig(decoder="plain"),
        )
    if name == "demo":
        return ModelConfig(
            name="demo",
            speech=SpeechConfig(
                pretrained=None, width=128, layers=1, heads=4, feed_forward=256, conv_width=32, positional_kernel=16
            ),
            tacotron=TacotronConfig(width=256, conv_width=192),
            denoiser=DenoiserConfig(
                width=96,
                heads=4,
                feed_forward=256,
                content_layers=1,
                style_layers=1,
                decoder_layers=1,
                tail_width=96,
                dropout=0.0,
                shared_matrices=4,
            ),
            normalised=True,
        )
    raise InputError(f"unknown preset {name!r}: expected one of dreamtalk, dmt, demo")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass tree as plain JSON-ready data."""
    return asdict(config)


def from_dict(cls: type, data: Any) -> Any:
    """The inverse of `to_dict`; InputError for an unknown field or a value of the wrong type."""
    if not isinstance(data, dict):
        raise InputError(f"{cls.__name__} must be a mapping of its fields, got {brief(data)}")
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}
    if unknown := sorted(set(data) - known):
        raise InputError(f"{cls.__name__} has no field {', '.join(unknown)}; the file is from another version")
    return cls(**{name: _value(f"{cls.__name__}.{name}", hints[name], value) for name, value in data.items()})


def _value(name: str, hint: Any, value: Any) -> Any:
    """`value` if it has the type `hint`; a mapping becomes the dataclass that hint names."""
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        raise InputError(f"{name} must be one of {', '.join(map(str, get_args(hint)))}, got {brief(value)}")
    choices = get_args(hint) or (hint,)
    if type(None) in choices and value is None:
        return None
    for choice in choices:
        if is_dataclass(choice):
            return from_dict(choice, value)
        if isinstance(value, bool) == (choice is bool) and isinstance(
            value, (int, float) if choice is float else choice
        ):
            return value
    raise InputError(f"{name} must be {' or '.join(c.__name__ for c in choices)}, got {brief(value)}")


__all__ = [
    "DenoiserConfig",
    "DiffusionConfig",
    "ModelConfig",
    "SparsityConfig",
    "SpeechConfig",
    "TacotronConfig",
    "from_dict",
    "preset",
    "replace",
    "to_dict",
]
