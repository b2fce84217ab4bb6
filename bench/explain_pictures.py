"""The pictures of docs/explain.md, features.md and trust.md: one photograph through every method, and what layers know.

    python bench/explain_pictures.py docs/images
    python bench/explain_pictures.py FOLDER cam lrp --network mobilenetv2 --photo darknet_dog.jpg --target "Pembroke"

Needs FOVEA_WEIGHTS and FOVEA_DATA, as bench/pretrained.py does. RISE takes 2,000 masks, everything else its defaults.
``features`` and ``trust`` are of MobileNetV2.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import pretrained
from PIL import Image

from fovea import explain
from fovea.report import attribution, sheets
from fovea.report.trust import trust_picture

FAMILIES = {
    "cam": ("grad_cam", "hires_cam", "layer_cam", "grad_cam_pp", "score_cam"),
    "gradient": ("gradient", "gradient_x_input", "smoothgrad", "vargrad"),
    "complete": ("integrated_gradients", "deeplift"),
    "lrp": ("lrp_epsilon", "lrp_gamma", "lrp_z_plus"),
    "covered": ("occlusion", "rise"),
    "rules": ("deconvnet", "guided_backprop", "guided_grad_cam"),
}
PANEL, QUALITY = 210, 82
DEPTHS = {
    "stage2.block0.conv3": (4, 12), "stage3.block0.conv3": (18, 24), "stage4.block1.conv3": (36, 63),
    "stage6.block0.conv3": (10, 80),
}  # fmt: skip
PATCHES, CAT, BOX = 4, "tabby_cat.jpg", (115, 0, 350, 350)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", choices=pretrained.NETWORKS, default="squeezenet")
    parser.add_argument("--photo", default="cat_720p.jpg")
    parser.add_argument("--target")
    parser.add_argument("families", nargs="*", help=f"of {', '.join(FAMILIES)}, features, trust (default: all)")
    args = parser.parse_args()
    photos = pretrained.folder("FOVEA_DATA") / "photos"
    for family in args.families or (*FAMILIES, "features", "trust"):
        if family == "features":
            drawn, width, name = features(pretrained.network("mobilenetv2"), photos), 1000, "features.jpg"
        elif family == "trust":
            found = explain.trust(
                pretrained.network("mobilenetv2"), photos / CAT, "guided_backprop", boxes=[BOX], depths=8
            )
            drawn, width, name = trust_picture(found), 1210, "trust.png"
            print(found.verdict)
        else:
            model = pretrained.network(args.network)
            drawn, width = strip(model, photos / args.photo, args.target, FAMILIES[family])
            name = f"explain_{family}.jpg"
        saved(drawn, args.folder / name, width)


def strip(model: Any, photo: Path, target: str | None, names: tuple[str, ...]) -> tuple[bytes, int]:
    """The photograph and its maps side by side, and how wide they are to be."""
    found = []
    for name in names:
        options = {"samples": 2000} if name == "rise" else {}
        found.append(explain.METHODS[name](model, photo, target, **options))
        print(name, found[-1].name, f"{found[-1].score:.4g}", *found[-1].notes, sep="; ", flush=True)
    return attribution.sheet(found, len(found) + 1), PANEL * (len(found) + 1)


def features(model: Any, photos: Path) -> bytes:
    """For two channels of layers at four depths the image made for it, and the patches that excite it most."""
    files = sorted(photos.iterdir())
    patches = explain.exciting(model, files, list(DEPTHS), DEPTHS, top_k=PATCHES)
    tiles = []
    for layer, channels in DEPTHS.items():
        made = explain.maximise(model, layer, channels)
        for row, channel in enumerate(channels):
            tiles.append(sheets.Tile(made.images[row], f"{layer}, {channel}", smooth=True))
            tiles += [sheets.Tile(patches[layer].patch(row, rank), "", smooth=True) for rank in range(PATCHES)]
    return sheets.sheet(tiles, "Left of five: an image made for a channel; then patches of photographs", columns=10)


def saved(drawn: bytes, path: Path, width: int) -> None:
    """A small file of a picture."""
    with Image.open(io.BytesIO(drawn)) as opened:
        small = opened.convert("RGB")
    small.thumbnail((width, 2000), Image.Resampling.LANCZOS)
    if path.suffix == ".png":
        small.quantize(128).save(path, optimize=True)
    else:
        small.save(path, quality=QUALITY, optimize=True, progressive=True)
    print(f"wrote {path}: {path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
