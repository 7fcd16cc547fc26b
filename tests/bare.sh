#!/usr/bin/env bash
# Runs a command as on a minimal machine; `make test-bare` runs the tests with it.
#
#   tests/bare.sh VENV COMMAND ...
#
# PATH has only the virtual environment and basic system tools: no SLURM, browser, LaTeX, or Node.
# HOME is empty and not writable; caches are elsewhere. TFDS_DATA_DIR and all other variables of the
# caller but CI are unset, there is no terminal, and LC_ALL=C. SIGHUP is ignored, as under nohup.
set -euo pipefail
venv=$(realpath "$1")
shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap '' HUP

mkdir "$folder"/{bin,home,cache,tmp}
for tool in awk basename bash cat chmod cp cut date dirname env false grep head id kill ln ls mkdir \
  mv ps pwd readlink rm rmdir sed sh sleep sort tail tee test touch tr true uname wc; do
  if path=$(type -P "$tool"); then ln -s "$path" "$folder/bin/$tool"; fi
done
chmod a-w "$folder/home"
# Root may write anywhere, so its HOME is a read-only file system.
own_mounts=()
if [ "$(id -u)" = 0 ] && unshare --mount true 2> /dev/null; then
  own_mounts=(unshare --mount bash -c
    "mount -t tmpfs -o ro,size=4k none '$folder/home' && exec \"\$@\"" bash)
fi

status=0
"${own_mounts[@]}" setsid --wait "$(type -P env)" -i PATH="$venv/bin:$folder/bin" \
  HOME="$folder/home" XDG_CACHE_HOME="$folder/cache" TMPDIR="$folder/tmp" LC_ALL=C ${CI:+CI="$CI"} \
  "$@" < /dev/null 2>&1 | cat || status=$?
if [ -n "$(ls -A "$folder/home")" ]; then
  echo "something was written into HOME: $(ls -A "$folder/home")"
  status=1
fi
exit "$status"
