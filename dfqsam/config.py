"""The settings of a quantization, as frozen dataclasses, and the named profiles."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dfqsam.errors import InputError

# Bits of weights and activations. Lower case: deployable, all but one on integer kernels. Upper case: the paper's full
# setting, simulated. The two are never compared under one name.
INTEGER = {"w8a8": (8, 8), "w6a6": (6, 6), "w4a8": (4, 8), "w4a4": (4, 4)}
SIZE_ONLY = "w4-only"  # weights of four bits in blocks, activations in floating point
PROFILES = {**INTEGER, SIZE_ONLY: (4, None)}
BLOCKS = (32, 64, 128)  # that every kernel has; others are slow or, in ONNX Runtime 1.26, silently wrong
PAPER = {"W8A8": (8, 8), "W6A6": (6, 6), "W4A4": (4, 4)}
METHODS = ("auto", "noise", "shapes", "psaq", "dfqsam")
STARTS = ("shapes", "noise")
TARGETS = ("center", "mean", "median", "mad")
ROTATION = "rotation"
UPSTREAM = ("full-precision", "quantized")
DEPTHWISE = ("float", "integer")
SOFTMAX = ("fitted", "sqrt2")
# What mends a quantized encoder (dfqsam.quant.passes), and the orders that have names.
PASSES = ("ranges", "depthwise", "weights", "blocks", "biases", "distillation", "decoder")
PRESETS = {
    "plain": ("ranges", "biases"),
    "fast": ("ranges", "depthwise", "weights", "biases"),
    "best": ("ranges", "depthwise", "weights", "blocks", "biases"),
    "taught": ("ranges", "depthwise", "weights", "biases", "decoder"),  # ten minutes more on two cores
    # Minutes more on a GPU, hours without.
    "distilled": ("ranges", "depthwise", "weights", "biases", "distillation"),
}


def _one_of(value: str, allowed: tuple[str, ...], what: str) -> None:
    if value not in allowed:
        raise InputError(f"There is no {what} {value!r}; choose one of {', '.join(allowed)}.")


@dataclass(frozen=True)
class QuantConfig:
    """What is quantized, and how finely.

    Attributes:
        profile: name of the profile, for the record.
        weight_bits: 2 to 8; symmetric, one scale per output channel.
        activation_bits: 2 to 8; affine, one scale and zero point per tensor. None for floating point.
        block: inputs that share a scale, 32, 64 or 128, where only the weights of Linears and 1x1 convolutions are
            rounded, to four bits; None for integer kernels. What is large besides is stored in eight bits and computed
            in floating point.
        gelu_bits: of activations behind a GELU. The deployable profiles give them 8 (integer kernels take 8 anyhow).
        layer_bits: names of layers whose weights have other bits than ``weight_bits``, with these.
        file_share: what the encoder's file may take of the bytes of full precision, a sixth for ``w4a8``; None for
            whatever it takes. The layers that matter most then get 8-bit weights: ``layer_bits`` are filled in by
            :func:`dfqsam.mixed.settled_bits`.
        edge_bits: of weights and activations of the first site (the one that reads the image) and of the last; None
            for the same as the others. Simulated only.
        keep: prefixes of site names that stay in full precision. Stage 0 of LiteMedSAM (``layers.0``) is there because
            its depthwise filters take differences of neighbours and amplify rounding noise up to thirty times: with
            four bits everywhere (W4A4, weights compensated) the error of what it gives is 0.37 of its variance. It is
            15 % of the work.
        depthwise: ``float`` for depthwise convolutions in full precision, or, at a speed not measured yet,
            ``integer``, with one activation scale a channel.
        products: quantize both attention products, softmax on a logarithmic grid; simulated, no kernel exists.
        softmax: steps an octave of that grid: ``fitted`` to the values and bits of each site, or ``sqrt2`` for the
            paper's two (:mod:`dfqsam.quant.logarithmic`).
        evened: make the channels of queries, keys and values alike before products round them, exactly
            (:mod:`dfqsam.quant.evening`).
        reparameterize: move the spread of LayerNorm outputs into the weights that read them (exact), towards
            ``center``, ``mean``, ``median`` or ``mad`` (see :mod:`dfqsam.quant.reparameterize`); ``rotation`` for
            block-Hadamard rotation of what a Linear reads from a norm, in its place (simulated, to compare with); None
            for neither.
        channel_scales: choose for every Linear and 1x1 convolution how much of the spread of its input channels the
            weights take up, by the error of the outputs, and give channels zero points of their own. Where no norm
            takes that up, it costs a subtraction and a division a value on the device (LiteMedSAM, w8a8, 151 masks:
            agreement 98.0 in place of 96.9). Depthwise convolutions have a scale a channel always, and with this zero
            points too.
        upstream: whether ranges are taken from ``full-precision`` or already ``quantized`` inputs.
        integer_decoder: give the transformer of the mask decoder 8-bit activations too; its weights have 8 bits always.
            It saves a tenth of a second prompt's time (LiteMedSAM) and costs 0.3 points of agreement.
        passes: what mends the encoder once it is quantized, in this order, each only where images that it was not
            fitted on agree: ``ranges`` of a convolutional stem judged by the embedding, scales of
            ``depthwise`` channels judged by what the filters make of them, ``weights`` refitted and
            rounded for the inputs that they meet, ``blocks`` fitted to what they gave in full precision, ``biases``
            that take up mean errors, ``distillation`` of the whole encoder from its end, and the mask ``decoder``
            taught to read the embeddings as they are (see :mod:`dfqsam.quant.passes`). Those of a preset have its
            name. Biases come before distillation: behind it they undo what was learned.
        rows: activation values kept per site to search its range in.
    """

    profile: str = "w8a8"
    weight_bits: int = 8
    activation_bits: int | None = 8
    block: int | None = None
    gelu_bits: int = 8
    layer_bits: tuple[tuple[str, int], ...] = ()
    file_share: float | None = None
    edge_bits: int | None = None
    keep: tuple[str, ...] = ("patch_embed", "layers.0")
    depthwise: str = "float"
    products: bool = False
    softmax: str = "fitted"
    evened: bool = True
    reparameterize: str | None = "center"
    channel_scales: bool = True
    upstream: str = "full-precision"
    integer_decoder: bool = False
    passes: tuple[str, ...] = PRESETS["fast"]
    rows: int = 1 << 19

    def __post_init__(self) -> None:
        _one_of(self.depthwise, DEPTHWISE, "treatment of depthwise convolutions")
        _one_of(self.upstream, UPSTREAM, "calibration input")
        _one_of(self.softmax, SOFTMAX, "grid for softmax outputs")
        if self.reparameterize is not None:
            _one_of(self.reparameterize, (*TARGETS, ROTATION), "reparameterization target")
        for name in self.passes:
            _one_of(name, PASSES, "pass")
        if "distillation" in self.passes and "biases" in self.passes[self.passes.index("distillation") :]:
            raise InputError("Correcting biases undoes what distillation learned; put biases before it.")
        own = [bits for _, bits in self.layer_bits]
        for bits in (self.weight_bits, self.activation_bits, self.gelu_bits, self.edge_bits, *own):
            if bits is not None and not 2 <= bits <= 8:
                raise InputError(f"{bits} bits were asked for; give 2 to 8.")
        if (self.block is None) != (self.activation_bits is not None):
            raise InputError("Blocks of weights go with activations in floating point; give both or neither.")
        if self.block is not None and self.block not in BLOCKS:
            raise InputError(f"Blocks of {self.block} weights were asked for; give {', '.join(map(str, BLOCKS))}.")
        if self.block is not None and (
            self.weight_bits != 4 or self.upstream == "quantized" or "blocks" in self.passes
        ):
            raise InputError("Blocks of weights have four bits, and no ranges or blocks of layers to be fitted.")
        if self.rows < 1:
            raise InputError(f"{self.rows} activation values a site were asked for; give at least 1.")

    @property
    def deployable(self) -> bool:
        """Whether kernels exist for all of it; the paper's setting is simulated."""
        return not self.products and self.edge_bits is None and self.reparameterize != ROTATION

    @classmethod
    def of(cls, profile: str, preset: str = "fast") -> QuantConfig:
        """The settings of a named profile, deployable (lower case) or the paper's (upper case), with the passes of a
        preset (:data:`PRESETS`).

        The paper's: every Linear and convolution, depthwise ones with a scale a channel, both attention products,
        post-GELU values at the bits of all others; the first and the last site at 8 bits. Bits are the paper's; how
        attention products are rounded (``softmax``, ``evened``), and how grids and biases are found
        (:mod:`dfqsam.quant.passes`), is ours, alike for every source of images.

        Raises:
            InputError: for an unknown name.
        """
        _one_of(preset, tuple(PRESETS), "preset")
        if profile in PAPER:
            weight_bits, activation_bits = PAPER[profile]
            return cls(
                profile,
                weight_bits,
                activation_bits,
                gelu_bits=activation_bits,
                edge_bits=8,
                keep=(),
                depthwise="integer",
                products=True,
                passes=PRESETS[preset],
            )
        if profile not in PROFILES:
            names = ", ".join((*PROFILES, *PAPER))
            raise InputError(f"There is no profile {profile!r}; choose one of {names}.")
        if profile == SIZE_ONLY:
            passes = tuple(name for name in PRESETS[preset] if name in ("weights", "biases", "decoder"))
            return cls(profile, 4, None, BLOCKS[0], reparameterize=None, channel_scales=False, passes=passes)
        weight_bits, activation_bits = INTEGER[profile]
        share = 1 / 6 if profile == "w4a8" else None
        return cls(profile, weight_bits, activation_bits, file_share=share, passes=PRESETS[preset])


@dataclass(frozen=True)
class SynthesisConfig:
    """How calibration images are made.

    Attributes:
        method: ``noise``, ``shapes``, ``psaq`` or ``dfqsam``; the last two optimise the images, the others draw them.
            ``auto`` is what measured best (README): ``dfqsam`` for an encoder that keeps batch-norm statistics, and
            ``shapes`` for any other, where optimising takes hours and, without these, gained little.
        images: how many, at least 1.
        seed: of every random draw.
        start: what the optimised images begin as, ``shapes`` or ``noise``.
        steps: optimisation steps of each batch.
        early: share of the steps that run at half the resolution, 0 to 1.
        batch: images optimised together.
        evolve: pseudo-positive label evolution (``dfqsam`` only).
        batch_norm: match the batch-norm statistics that the encoder keeps (``dfqsam`` only).
        attention: the attention that keys receive follows the pseudo masks (``dfqsam`` only).
        easy_to_hard: crops grow smaller as the images form (DFQ-ViT; ``dfqsam`` only).
        prior: path of a segmentation network (TorchScript or ONNX) that takes the place of SAM's own predictions.
        prior_classes: names of that network's classes, the background first.
    """

    method: str = "auto"
    images: int = 32
    seed: int = 0
    start: str = "shapes"
    steps: int = 24
    early: float = 1.0
    batch: int = 4
    evolve: bool = True
    batch_norm: bool = True
    attention: bool = False
    easy_to_hard: bool = False
    prior: str | None = None
    prior_classes: tuple[str, ...] = ()

    def quick(self) -> SynthesisConfig:
        """At most 16 images in at most 8 steps, for a first look: minutes on two cores."""
        return replace(self, images=min(self.images, 16), steps=min(self.steps, 8))

    def __post_init__(self) -> None:
        _one_of(self.method, METHODS, "synthesis method")
        _one_of(self.start, STARTS, "start of synthesis")
        if self.images < 1:
            raise InputError(f"{self.images} calibration images were asked for; give at least 1.")
        if self.steps < 1 or self.batch < 1 or not 0 <= self.early <= 1:
            raise InputError("Synthesis needs at least 1 step and 1 image a batch, and an early share of 0 to 1.")
