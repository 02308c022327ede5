#!/usr/bin/env bash
# Makes the packages of all three crates as they would be published, without building them, and looks at
# what is inside: all sources and shaders, whatever include_str! and include_bytes! name, and no
# data that bloats them.   package.sh
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
most_compressed=1000000 # bytes of a package
most_file=200000        # bytes of one file in it
failed=0
fail() {
    echo "package: $*" >&2
    failed=1
}

# What packages leave out is said for each test; nothing else is said but errors.
cargo package --quiet -p qmatmul -p qmatmul-report -p qmatmul-cli --no-verify --allow-dirty 2>&1 | { grep -v -e 'ignoring test' -e 'ignoring benchmark' -e 'no documentation, homepage or repository' -e '^ *|$' -e '= note: see .*manifest.html' || true; } >&2

lists=$(mktemp -d)
trap 'rm -rf "$lists"' EXIT
for package in qmatmul qmatmul-report qmatmul-cli; do
    cargo package --list --allow-dirty -p $package 2>/dev/null >"$lists/$package"
done

# look PACKAGE FOLDER PART...: the package of FOLDER holds all of PART, and nothing large.
look() {
    local package=$1 folder=$2 files size file
    shift 2
    files=$(cat "$lists/$package")
    for part in "$@"; do
        # Tracked, or new and not ignored.
        for file in $(cd "$folder" && git ls-files --cached --others --exclude-standard "$part"); do
            [ ! -e "$folder/$file" ] || grep -qxF "$file" <<<"$files" || fail "$package lacks $file"
        done
    done
    if grep -E '^(tests|fuzz|crates|benches/record)/|\.(gguf|safetensors)$' <<<"$files"; then fail "$package holds test data"; fi
    for file in $files; do
        size=$(stat -c %s "$folder/$file" 2>/dev/null || echo 0)
        [ "$size" -le $most_file ] || fail "$package: $file has $size bytes, $most_file at most"
    done
    size=$(stat -c %s "$target/package/$package-"[0-9]*.crate)
    [ "$size" -le $most_compressed ] || fail "$package has $size bytes, $most_compressed at most"
    echo "package $package: $(wc -l <<<"$files") files, $size bytes"
}
look qmatmul . src shaders README.md LICENSE-MIT LICENSE-APACHE
look qmatmul-report crates/qmatmul-report src build.rs
look qmatmul-cli crates/qmatmul-cli src

# What sources include, from the file that says so, lies in the same package.
grep -rnoE 'include_(str|bytes)!\("[^"]+"\)' src crates/qmatmul-{report,cli}/src | while IFS=: read -r file _ include; do
    path=$(cd "$(dirname "$file")" && realpath --relative-to="$OLDPWD" "$(sed -E 's/.*"(.*)".*/\1/' <<<"$include")")
    case $file in
        src/*) package=qmatmul ;;
        *) package=$(cut -d/ -f2 <<<"$file") path=${path#crates/*/} ;;
    esac
    grep -qxF "$path" "$lists/$package" || echo "$file includes $path, which its package lacks"
done | { ! grep . >&2; } || fail "files are missing"
exit $failed
