#!/usr/bin/env bash
# A command with another folder as its root (chroot in a mount namespace of its own: this needs the rights of root).
#   in_root.sh ROOT FOLDER=PLACE... -- COMMAND...
# Each FOLDER appears at PLACE. The command keeps the number of this process, so whoever ends that ends it.
exec unshare --mount --propagation private bash -c '
    root=$1
    for folder in proc dev sys; do mkdir -p "$root/$folder" && mount --rbind "/$folder" "$root/$folder" || exit 125; done
    while shift && [ "$1" != -- ]; do
        mkdir -p "$root${1#*=}" && mount --bind "${1%%=*}" "$root${1#*=}" || exit 125
    done
    shift
    cd / && exec chroot "$root" "$@"' _ "$@"
