"""The SAM families that are understood: architecture, input size, preprocessing, prompts; recognised by their keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from dfqsam.errors import CheckpointError
from dfqsam.sam.preprocessing import MIN_MAX, SAM, Preprocessing

EVERY_PROMPT = ("box", "point", "mask")
VIT_SIZES = (1024, 512, 256)
COMPACT_SIDE, COMPACT_WINDOW = 256, 6


@dataclass(frozen=True)
class Family:
    """A kind of SAM.

    Attributes:
        name: what the command line calls it.
        title: what people call it.
        width: channels of the encoder (ViT: 768, 1024, 1280), or of TinyViT's first stage.
        depth: blocks of the encoder; 0 for TinyViT.
        heads: attention heads of a ViT; 0 for TinyViT.
        global_blocks: the blocks of a ViT that attend to the whole picture.
        image_size: side of the encoder's square in pixels.
        image_sizes: those that can be asked for.
        window: of a ViT, side of its windows in tokens.
        patch_stride: TinyViT: stride of each of the two convolutions of the patch embedding.
        preprocessing: see :class:`Preprocessing`.
        prompts: the kinds that the model was trained on.
        licence: of the published weights.
    """

    name: str
    title: str
    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    image_size: int
    image_sizes: tuple[int, ...]
    preprocessing: Preprocessing
    prompts: tuple[str, ...]
    licence: str
    patch_stride: int = 1
    window: int = 14

    @property
    def is_vit(self) -> bool:
        return self.depth > 0


def compact(width: int, depth: int, heads: int, global_blocks: tuple[int, ...]) -> Family:
    """A ViT SAM of sizes that SAM does not come in, trained at 256 px on boxes and points (dfqsam.sam.reference)."""
    side, prompts, licence = COMPACT_SIDE, ("box", "point"), "research use only, see the model card of the weights"
    sizes = (width, depth, heads, global_blocks, side, (side,))
    return Family("compact-vit", "compact ViT SAM", *sizes, SAM, prompts, licence, window=COMPACT_WINDOW)


def _vit(name: str, title: str, size: str, image_size: int = 1024, prompts: tuple[str, ...] = EVERY_PROMPT) -> Family:
    width, depth, heads, blocks = {
        "b": (768, 12, 12, (2, 5, 8, 11)),
        "l": (1024, 24, 16, (5, 11, 17, 23)),
        "h": (1280, 32, 16, (7, 15, 23, 31)),
    }[size]
    return Family(name, title, width, depth, heads, blocks, image_size, VIT_SIZES, SAM, prompts, licence="Apache-2.0")


FAMILIES = {
    family.name: family
    for family in (
        Family("lite-medsam", "LiteMedSAM", 64, 0, 0, (), 256, (256,), MIN_MAX, ("box",), "Apache-2.0", 1),
        Family("mobile-sam", "MobileSAM", 64, 0, 0, (), 1024, (1024,), SAM, EVERY_PROMPT, "Apache-2.0", 2),
        _vit("sam-vit-b", "SAM ViT-B", "b"),
        _vit("sam-vit-l", "SAM ViT-L", "l"),
        _vit("sam-vit-h", "SAM ViT-H", "h"),
        _vit("medsam", "MedSAM", "b", prompts=("box",)),
        _vit("sam-med2d", "SAM-Med2D", "b", image_size=256),
    )
}
# Its sizes differ from checkpoint to checkpoint; these are the usual ones.
COMPACT = compact(192, 6, 3, (2, 5))
TINYVIT_KEY = "image_encoder.patch_embed.seq.0.c.weight"
VIT_KEY = "image_encoder.patch_embed.proj.weight"


def _shape(state: Mapping[str, Tensor], key: str) -> tuple[int, ...]:
    return tuple(state[key].shape) if key in state else ()


def family_named(name: str) -> Family:
    """The family of that name; CheckpointError with the known names otherwise."""
    known = {**FAMILIES, COMPACT.name: COMPACT}
    if name not in known:
        raise CheckpointError(f"There is no family {name!r}; choose one of {', '.join(known)}.")
    return known[name]


def recognise(state: Mapping[str, Tensor], name: str | None = None) -> Family:
    """The family of a state dict with SAM's key names, from its keys and shapes alone.

    MedSAM has the shapes of SAM ViT-B and is taken for it unless ``name`` says otherwise.

    Raises:
        CheckpointError: for a model that is no SAM of a known family, or that contradicts ``name``.
    """
    found = _recognised(state)
    if name is None or name == found.name:
        return found
    wanted = family_named(name)
    same = ("width", "depth", "patch_stride", "is_vit")
    sized = wanted.image_size == found.image_size or {wanted.name, found.name} <= {"sam-med2d", "sam-vit-b", "medsam"}
    if not sized or any(getattr(wanted, field) != getattr(found, field) for field in same):
        raise CheckpointError(
            f"The checkpoint has the shapes of {found.title}, not of {wanted.title}; leave out --family."
        )
    return wanted


def _compact(state: Mapping[str, Tensor], width: int, depth: int) -> Family | None:
    """The compact ViT whose heads and blocks of global attention the position tables tell; None where it is none."""
    grid = COMPACT_SIDE // 16
    if width > 512 or depth > 12 or _shape(state, "image_encoder.pos_embed")[1:3] != (grid, grid):
        return None
    tables = [_shape(state, f"image_encoder.blocks.{i}.attn.rel_pos_h") for i in range(depth)]
    lengths = {2 * COMPACT_WINDOW - 1, 2 * grid - 1}
    if any(len(t) != 2 or t[0] not in lengths or not t[1] or t[1] != tables[0][1] or width % t[1] for t in tables):
        return None
    whole = tuple(i for i, table in enumerate(tables) if table[0] == 2 * grid - 1)
    return replace(COMPACT, width=width, depth=depth, heads=width // tables[0][1], global_blocks=whole)


def _recognised(state: Mapping[str, Tensor]) -> Family:
    stem = _shape(state, TINYVIT_KEY)
    if len(stem) == 4 and stem[1] == 3 and stem[2:] in ((1, 1), (3, 3)):
        return FAMILIES["lite-medsam" if stem[2:] == (1, 1) else "mobile-sam"]
    patch = _shape(state, VIT_KEY)
    if len(patch) == 4:
        depth = len({key.split(".")[2] for key in state if key.startswith("image_encoder.blocks.")})
        adapted = any(".Adapter." in key for key in state)
        for family in FAMILIES.values():
            if family.is_vit and (family.width, family.depth) == (patch[0], depth):
                small = _shape(state, "image_encoder.pos_embed")[1:2] == (16,)
                return FAMILIES["sam-med2d"] if family.width == 768 and (adapted or small) else family
        if small := _compact(state, patch[0], depth):
            return small
        raise CheckpointError(
            f"The checkpoint's encoder has width {patch[0]} and {depth} blocks; SAM's are 768 and 12, 1024 and 24, "
            "1280 and 32, and a compact ViT SAM takes 256 px and has at most 512 and 12."
        )
    raise CheckpointError(
        "The checkpoint is no Segment Anything model that is known here (no image_encoder with a ViT or TinyViT patch "
        "embedding); give a SAM, MedSAM, SAM-Med2D, MobileSAM or LiteMedSAM checkpoint."
    )
