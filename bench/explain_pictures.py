"""The pictures of docs/explain.md: one photograph through every method, a strip for each family.

    python bench/explain_pictures.py docs/images
    python bench/explain_pictures.py FOLDER --network mobilenetv2 --photo darknet_dog.jpg --target "Pembroke"

Needs FOVEA_WEIGHTS and FOVEA_DATA, as bench/pretrained.py does. RISE takes 2,000 masks, everything else its defaults.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import pretrained
from PIL import Image

from fovea import explain
from fovea.report.attribution import sheet

FAMILIES = {
    "cam": ("grad_cam", "hires_cam", "layer_cam", "grad_cam_pp", "score_cam"),
    "gradient": ("gradient", "gradient_x_input", "smoothgrad", "vargrad"),
    "complete": ("integrated_gradients", "deeplift"),
    "lrp": ("lrp_epsilon", "lrp_gamma", "lrp_z_plus"),
    "covered": ("occlusion", "rise"),
    "rules": ("deconvnet", "guided_backprop", "guided_grad_cam"),
}
PANEL, QUALITY = 210, 82


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", choices=pretrained.NETWORKS, default="squeezenet")
    parser.add_argument("--photo", default="cat_720p.jpg")
    parser.add_argument("--target")
    parser.add_argument("families", nargs="*", help=f"of {', '.join(FAMILIES)} (default: all)")
    args = parser.parse_args()
    model = pretrained.network(args.network)
    photo = pretrained.folder("FOVEA_DATA") / "photos" / args.photo
    for family in args.families or FAMILIES:
        found = []
        for name in FAMILIES[family]:
            options = {"samples": 2000} if name == "rise" else {}
            found.append(explain.METHODS[name](model, photo, args.target, **options))
            print(name, found[-1].name, f"{found[-1].score:.4g}", *found[-1].notes, sep="; ", flush=True)
        with Image.open(io.BytesIO(sheet(found, len(found) + 1))) as drawn:
            small = drawn.convert("RGB")
            small.thumbnail((PANEL * (len(found) + 1), 2000), Image.Resampling.LANCZOS)
        path = args.folder / f"explain_{family}.jpg"
        small.save(path, quality=QUALITY, optimize=True, progressive=True)
        print(f"wrote {path}: {path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
