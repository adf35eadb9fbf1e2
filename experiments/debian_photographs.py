"""Makes the folder of 36 photographs that the shipped network was trained on, from packages of Debian.

    apt-get download lomiri-wallpapers-16.04 lomiri-wallpapers-20.04
    apt-get download mate-backgrounds plasma-workspace-wallpapers
    for package in *.deb; do dpkg-deb -x "$package" packages; done
    python experiments/debian_photographs.py packages photographs

They are scaled down to a longer side of 1600 pixels. Of the pictures of these packages they are those that are
photographs; their makers and licences stand in packages/usr/share/doc/*/copyright.
"""

import argparse
from pathlib import Path

from PIL import Image

LONGER_SIDE = 1600
QUALITY = 95
LOMIRI = """Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Kleiber_by_Lukas_Baubkus Picture_0B_by_freespace
    Picture_1A_by_freespace Wine_by_Jakkub_Mede aitzgorri_by_Aitzol_Berasategi free_by_Peter_Nerlich
    friends_by_Aitzol_Berasategi life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi
    seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi"""
MATE = """Aqua Blinds Dune FreshFlower Garden GreenMeadow LadyBird RainDrops Storm TwoWings Wood YellowFlower"""
PLASMA = """BytheWater ColdRipple ColorfulCups DarkestHour EveningGlow FallenLeaf Grey Kite OneStandsOut Path
    summer_1am"""
FILES = {
    "lomiri": (LOMIRI, "usr/share/backgrounds/{}.jpg"),
    "mate": (MATE, "usr/share/backgrounds/mate/nature/{}.jpg"),
    "plasma": (PLASMA, "usr/share/wallpapers/{}/contents/images/2560x1600.jpg"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, help="folder in which the packages were unpacked")
    parser.add_argument("out", type=Path, help="folder to write the photographs into")
    arguments = parser.parse_args()
    sources = {
        f"{package}_{name.partition('_by_')[0].lower()}.jpg": arguments.packages / place.format(name)
        for package, (names, place) in FILES.items()
        for name in names.split()
    }
    missing = [str(path) for path in sources.values() if not path.is_file()]
    if missing:
        parser.error(f"not there: {', '.join(missing)}; unpack all four packages into {arguments.packages}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, path in sources.items():
        with Image.open(path) as file:
            picture = file.convert("RGB")
        picture.thumbnail((LONGER_SIDE, LONGER_SIDE), Image.Resampling.LANCZOS)
        picture.save(arguments.out / name, quality=QUALITY)
    print(f"{len(sources)} photographs in {arguments.out}")


if __name__ == "__main__":
    main()
