#!/usr/bin/env bash
# clean_root.sh [SUITE [LOG]]: what a newcomer meets. Makes a minimal Debian (bookworm) or Ubuntu (noble) root with
# mmdebstrap, where no make, compiler or python is, clones this repository into it, and runs ./run demo and
# ./run test there. Needs root, mmdebstrap and git. Appends the outcome to LOG (docs/logs/clean-root.txt).
# Packages come from where mmdebstrap takes them by itself; INGOT_MIRROR=URI names another mirror. A noble root needs
# Ubuntu's keys, of which Debian has no package: UBUNTU_KEYRING names them (ubuntu-archive-keyring.gpg, in
# ubuntu-keyring_*.deb of Ubuntu's pool). CLEAN_ROOT_DIR: where the root goes (2 GB, removed at the end).
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
suite=${1:-bookworm}
log=${2:-$repo/docs/logs/clean-root.txt}
options=()
case $suite in
  bookworm) ;;
  noble)
    keyring=${UBUNTU_KEYRING:-/usr/share/keyrings/ubuntu-archive-keyring.gpg}
    [[ -r $keyring ]] || { echo "clean_root.sh: set UBUNTU_KEYRING to ubuntu-archive-keyring.gpg" >&2; exit 2; }
    options=(--components=main,universe --keyring="$keyring") ;;
  *) echo "clean_root.sh: unknown suite $suite" >&2; exit 2 ;;
esac
mkdir -p "$(dirname "$log")"
work=$(mktemp -d "${CLEAN_ROOT_DIR:-/var/tmp}/ingot-clean-XXXXXX")
root=$work/root
cleanup() {
  for mounted in dev/pts dev/shm dev proc sys; do
    if mountpoint -q "$root/$mounted"; then umount -l "$root/$mounted"; fi
  done
  # Never through a mount that would not go.
  if ! grep -q " $root/" /proc/mounts; then rm -rf "$work"; fi
}
trap cleanup EXIT

start=$SECONDS
# apt is there on every Ubuntu, but not among what mmdebstrap calls minbase.
mmdebstrap --variant=minbase --include=apt "${options[@]}" "$suite" "$root" ${INGOT_MIRROR:+"$INGOT_MIRROR"} >"$work/mmdebstrap.log" 2>&1 ||
  { tail -n 20 "$work/mmdebstrap.log" >&2; echo "clean_root.sh: mmdebstrap failed" >&2; exit 1; }
# The network as here, nothing else from here.
if [[ $suite == noble ]]; then cp "$keyring" "$root/etc/apt/trusted.gpg.d/"; fi
cp -L /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null || true
if [[ -n ${http_proxy:-} ]]; then echo "Acquire::http::Proxy \"$http_proxy\";" >"$root/etc/apt/apt.conf.d/01proxy"; fi
# PyPI, too, as pip is configured here: where it is, and whose certificates it has.
pip=()
while IFS= read -r variable; do
  if [[ $variable == PIP_INDEX_URL=* || $variable == PIP_EXTRA_INDEX_URL=* || $variable == *_proxy=* ]]; then pip+=("$variable"); fi
done < <(env)
# Under a name of its own: the package of certificates makes its file anew.
if [[ -r ${PIP_CERT:-} ]]; then
  install -m 644 "$PIP_CERT" "$root/etc/pip-certificates.pem"
  pip+=(PIP_CERT=/etc/pip-certificates.pem)
fi
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev" 2>/dev/null || mount --bind /dev "$root/dev"
mount --make-rslave "$root/dev" 2>/dev/null || true
git clone -q "$repo" "$root/ingot"
commit=$(git -C "$repo" rev-parse --short HEAD)
for tool in make g++ cc python3 cmake git sudo; do
  if chroot "$root" bash -c "command -v $tool" >/dev/null; then present="${present:-} $tool"; fi
done
echo "== $suite root ($(du -sm "$root" --exclude=dev --exclude=proc | cut -f1) MB) in $((SECONDS - start)) s; of make g++ cc python3 cmake git sudo it has:${present:- none}"

outcome=()
failed=0
inside() {  # COMMAND: its output is shown and kept
  local start=$SECONDS rc=0
  echo "== in the root: $1"
  chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb "${pip[@]}" \
    bash -c "cd /ingot && $1" </dev/null >"$work/out" 2>&1 || rc=$?
  cat "$work/out"
  outcome+=("  $1: exit code $rc in $((SECONDS - start)) s; last line: $(tail -n 1 "$work/out")")
  ((rc == 0)) || failed=1
}
inside './run demo'
continuation=$(grep -m1 -A3 '^def main(' "$work/out" | head -c 400 || true)
inside './run test'
inside 'echo "$(g++ -dumpfullversion): $(cat build/log/build-*.log | grep -c "warning: ") warnings"'
inside './run demo >/dev/null && echo "the demo again"'
{
  echo
  echo "$(date -u +%FT%TZ) tests/clean_root.sh $suite, commit $commit, $(nproc) cores; minbase root with:${present:- none} of make g++ cc python3 cmake git sudo"
  printf '%s\n' "${outcome[@]}"
  if [[ -n $continuation ]]; then printf '  the demo said: %s\n' "${continuation//$'\n'/$'\n'    }"; fi
} | tee -a "$log"
exit $failed
