#!/usr/bin/env bash
# The library in browsers: its page, and the tests that browsers run.
#
#   web.sh check                          whether it compiles for wasm32 without warnings
#   web.sh build                          the page into target/web: wasm, JavaScript, what lies in web/
#   web.sh test [BROWSER...] [SUITE...]   web/test in headless Chromium and Firefox, or in a part: web.sh test firefox webgpu
#
# Sets up what is missing below target/web-tools, without installing anything but rustup's target wasm32: wasm-bindgen of the version
# in Cargo.lock, puppeteer-core of npm, Debian's browsers and Mesa (root only, as they run in a chroot), and Debian's Rust where rustup
# has no target. CHROMIUM and FIREFOX name other browsers.
set -uo pipefail
cd "$(dirname "$0")/.."
project=$PWD
here=$project/target/web-tools
target=${CARGO_TARGET_DIR:-$project/target}
out=$project/target/web
wasm=wasm32-unknown-unknown
jobs=${JOBS:-2}
# What the page may weigh, compressed.
most=$((1024 * 1024))
mkdir -p "$here"

. scripts/debian.sh

fail() { say "web: $*"; exit 1; }

# --- the page -------------------------------------------------------------------------------------------------------------------

has_wasm() { [ -d "$(rustc --print target-libdir --target $wasm 2>/dev/null)" ]; }

set_up_rust() {
    has_wasm && return
    ! command -v rustup >/dev/null || { timeout 300 rustup target add $wasm >>"$here/setup.log" 2>&1 && has_wasm; } && return
    set_up_debian_rust
}

# Debian's Rust, whose standard library for wasm no other version of Rust can take. It is started by its own dynamic linker, so no
# chroot is needed; the linker of this machine links what runs during the build.
set_up_debian_rust() {
    [ -e "$here/rust/done" ] || {
        say "fetching Debian's Rust for wasm32 (200 MB) ..."
        fetch_sid "$here/rust" rustc libstd-rust-dev-wasm32 lld && touch "$here/rust/done" || return 1
    }
    starter rustc --sysroot "$here/rust/root/usr"
    starter wasm-ld
    export RUSTC=$here/rust/bin/rustc CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$here/rust/bin/wasm-ld
}

# starter PROGRAM ARGUMENT...: rust/bin/PROGRAM, which starts that of the root with those arguments first.
starter() {
    local root=$here/rust/root
    mkdir -p "$here/rust/bin"
    cat >"$here/rust/bin/$1" <<EOF
#!/bin/sh
exec "$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$root/$libraries" --argv0 $1 "$(readlink -f "$root/usr/bin/$1")" ${*:2} "\$@"
EOF
    chmod +x "$here/rust/bin/$1"
}

# The program must be of the version of the crate.
set_up_wasm_bindgen() {
    local version
    version=$(sed -n '/^name = "wasm-bindgen"$/ { n; s/^version = "\(.*\)"$/\1/p }' Cargo.lock)
    [ -n "$version" ] || { say "Cargo.lock has no wasm-bindgen"; return 1; }
    bindgen=$here/wasm-bindgen-$version/bin/wasm-bindgen
    [ -x "$bindgen" ] && return
    if command -v wasm-bindgen >/dev/null && [ "$(wasm-bindgen --version)" = "wasm-bindgen $version" ]; then
        bindgen=wasm-bindgen
        return
    fi
    say "building wasm-bindgen $version (minutes) ..."
    env -u RUSTC CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=false cargo install -q -j"$jobs" --root "$here/wasm-bindgen-$version" \
        --target-dir "$here/wasm-bindgen-build" --no-default-features wasm-bindgen-cli --version "$version" >>"$here/setup.log" 2>&1 &&
        rm -rf "$here/wasm-bindgen-build"
}

check() {
    set_up_rust || fail "there is no Rust for $wasm (target/web-tools/setup.log)"
    # Debian's compiler has no clippy of its version.
    local verb=check
    [ -n "${RUSTC:-}" ] || ! cargo clippy --version >/dev/null 2>&1 || verb=clippy
    RUSTFLAGS="-D warnings" cargo $verb -j"$jobs" --target $wasm -p qmatmul-web
}

build() {
    set_up_rust || fail "there is no Rust for $wasm (target/web-tools/setup.log)"
    set_up_wasm_bindgen || fail "wasm-bindgen cannot be installed (target/web-tools/setup.log)"
    # wasm-bindgen reads a section that `strip` takes away; it takes away what visitors do not need itself. LTO saves a tenth of what
    # they fetch. wasm-opt -Oz saves an eighth of the file and nothing of what they fetch, so it is not used.
    CARGO_PROFILE_RELEASE_STRIP=false CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 \
        cargo build -j"$jobs" --release --target $wasm -p qmatmul-web || exit 1
    rm -rf "$out"
    mkdir -p "$out"
    "$bindgen" --target web --no-typescript --remove-producers-section --remove-name-section --out-dir "$out" "$target/$wasm/release/qmatmul_web.wasm" || exit 1
    local file=$out/qmatmul_web_bg.wasm
    find web -mindepth 1 -maxdepth 1 ! -name test -exec cp -r {} "$out" \;
    sizes "$file"
}

# Fails if a visitor has too much to fetch.
sizes() {
    local whole gzip brotli=
    whole=$(stat -c %s "$1")
    gzip=$(gzip -9 -c "$1" | wc -c)
    ! command -v brotli >/dev/null || brotli=", $(brotli -c "$1" | wc -c) with brotli"
    echo "$(basename "$1"): $whole bytes, $gzip with gzip$brotli; JavaScript: $(cat "$out"/*.js | wc -c) bytes"
    [ "$gzip" -le $most ] || fail "the wasm has $gzip bytes with gzip, and $most are the most that it may have"
}

# --- the tests ------------------------------------------------------------------------------------------------------------------

set_up_puppeteer() {
    command -v node >/dev/null || { say "node is not installed (18 or newer)"; return 1; }
    local version=24.43.1 # the last that takes node 20
    [ -e "$here/node/$version" ] && return
    say "fetching puppeteer-core ..."
    mkdir -p "$here/node"
    npm install --silent --no-audit --no-fund --no-save --prefix "$here/node" "puppeteer-core@$version" >>"$here/setup.log" 2>&1 &&
        touch "$here/node/$version"
}

# A program of Debian's for each browser that is not named.
set_up_browsers() {
    [ -z "${CHROMIUM:-}" ] || [ -z "${FIREFOX:-}" ] || return 0
    [ "$(id -u)" = 0 ] || { say "Debian's browsers run in a chroot, which needs root; CHROMIUM and FIREFOX name others"; return 1; }
    local root=$here/browsers/root browser
    [ -e "$here/browsers/done" ] || {
        say "fetching Chromium, Firefox and Mesa (350 MB) ..."
        fetch_sid "$here/browsers" base-files bash coreutils chromium firefox mesa-vulkan-drivers libvulkan1 fonts-dejavu-core &&
            touch "$here/browsers/done" || return 1
    }
    mkdir -p "$here/bin" "$root/root"
    for browser in chromium firefox; do
        cat >"$here/bin/$browser" <<EOF
#!/bin/sh
exec "$project/scripts/in_root.sh" "$root" "$project=$project" -- env HOME=/root PATH=/usr/bin:/bin LC_ALL=C.UTF-8 XDG_RUNTIME_DIR=/tmp VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json \\
    /usr/lib/$browser/$browser "\$@"
EOF
        chmod +x "$here/bin/$browser"
    done
    export CHROMIUM=${CHROMIUM:-$here/bin/chromium} FIREFOX=${FIREFOX:-$here/bin/firefox}
}

tests() {
    set_up_puppeteer || fail "puppeteer-core cannot be fetched (target/web-tools/setup.log)"
    set_up_browsers || fail "the browsers cannot be set up (target/web-tools/setup.log)"
    # Profiles lie where browsers in a root see them, too.
    local profiles
    profiles=$(mktemp -d "$here/profiles.XXXXXX")
    trap "rm -rf '$profiles'" EXIT
    TMPDIR=$profiles WEB_TOOLS=$here node web/test/run.mjs "$@"
}

case ${1:-} in
check) check ;;
build) build ;;
test) tests "${@:2}" ;;
*) fail "web.sh check, web.sh build, or web.sh test [BROWSER...] [SUITE...]" ;;
esac
