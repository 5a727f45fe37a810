"""The settings of a quantization, as frozen dataclasses, and the named profiles."""

from __future__ import annotations

from dataclasses import dataclass

from dfqsam.errors import InputError

PROFILES = {"w8a8": (8, 8), "w6a6": (6, 6), "w4a8": (4, 8), "w4a4": (4, 4)}
METHODS = ("noise", "shapes", "psaq")


@dataclass(frozen=True)
class QuantConfig:
    """What is quantized, and how finely.

    Attributes:
        profile: name of the profile, for the record.
        weight_bits: 2 to 8; symmetric, one scale per output channel.
        activation_bits: 2 to 8; affine, one scale and zero point per tensor.
        keep: prefixes of site names that stay in full precision. Depthwise convolutions and attention products stay
            so too: their inputs need scales per channel (methods: 2b) or have no faster integer kernel.
        reparameterize: move the spread of LayerNorm outputs into the weights that read them (exact).
        rows: activation values kept per site to search its range in.
    """

    profile: str = "w8a8"
    weight_bits: int = 8
    activation_bits: int = 8
    keep: tuple[str, ...] = ("patch_embed",)
    reparameterize: bool = True
    rows: int = 1 << 19

    @classmethod
    def of(cls, profile: str) -> QuantConfig:
        """The settings of a named profile.

        Raises:
            InputError: for an unknown name.
        """
        if profile not in PROFILES:
            raise InputError(f"There is no profile {profile!r}; choose one of {', '.join(PROFILES)}.")
        weight_bits, activation_bits = PROFILES[profile]
        return cls(profile=profile, weight_bits=weight_bits, activation_bits=activation_bits)


@dataclass(frozen=True)
class SynthesisConfig:
    """How calibration images are made.

    Attributes:
        method: ``noise``, ``shapes`` or ``psaq``.
        images: how many, at least 1.
        seed: of every random draw.
        steps: optimisation steps (``psaq`` only).
        batch: images optimised together (``psaq`` only).
    """

    method: str = "shapes"
    images: int = 16
    seed: int = 0
    steps: int = 20
    batch: int = 4

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"There is no synthesis method {self.method!r}; choose one of {', '.join(METHODS)}.")
        if self.images < 1:
            raise InputError(f"{self.images} calibration images were asked for; give at least 1.")
