#!/usr/bin/env bash
# Fetches 195 free photographs out of three Debian packages, for `q-align data generate --photo-dir DIR`.
# bash scripts/free_photos.sh DIR; needs apt-get and dpkg-deb (Debian 12; 154 MB are downloaded, 51 MB stay).
#
# endless-sky-high-dpi: 183 photographs in the public domain by the package's copyright file (morguefile, unsplash before
#   its own licence, NASA, USGS, Library of Congress); those under CC BY-SA are left out.
# lomiri-wallpapers-16.04: 8 under CC BY 4.0 (Aitzol Berasategi, Trevor "Freespace", Jakub Mede), 1 under CC0.
# palapeli-data: 3 in the public domain (Derek Jensen, US Department of Agriculture, John Severns).
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: bash scripts/free_photos.sh DIR" >&2; exit 2; }
for tool in apt-get dpkg-deb; do
  command -v "$tool" >/dev/null || { echo "$0: needs $tool, which Debian and its relatives have" >&2; exit 1; }
done
mkdir -p "$1"
out=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -o APT::Sandbox::User=root download endless-sky-high-dpi lomiri-wallpapers-16.04 palapeli-data
for package in *.deb; do dpkg-deb -x "$package" files; done

sky=files/usr/share/games/endless-sky/plugins/endless-sky-high-dpi/images
for photo in "$sky"/land/*@2x.jpg "$sky"/scene/loc[57]@2x.jpg; do
  name=$(basename "$photo")
  name=${name/@2x/}
  case $name in
    *-*.jpg | bwerner* | myrabella* | dmottl* | mfield* | lava5*) ;; # CC BY-SA
    *) cp "$photo" "$out/es_$name" ;;
  esac
done
for name in Picture_0B_by_freespace Picture_1A_by_freespace Wine_by_Jakkub_Mede aitzgorri_by_Aitzol_Berasategi \
  friends_by_Aitzol_Berasategi life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi \
  seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi; do
  cp "files/usr/share/backgrounds/$name.jpg" "$out/lomiri_$name.jpg"
done
cp files/usr/share/palapeli/collection/{cincinnati-bridge,citrus-fruits,european-honey-bee}.jpg "$out"
echo "$(find "$out" -name '*.jpg' | wc -l) photographs in $out"
