# Debian's packages without installing them: a part of drivers.sh and web.sh. Works below the folder `here`, where setup.log takes
# what the tools say.

libraries=usr/lib/x86_64-linux-gnu

say() { echo "$*" >&2; }

apt() { apt-get -qq -o Debug::NoLocking=true -o APT::Sandbox::User=root "$@" >>"$here/setup.log" 2>&1; }

# unpack FOLDER ROOT: all packages of a folder.
unpack() {
    local package
    mkdir -p "$2"
    for package in "$1"/*.deb; do dpkg -x "$package" "$2" 2>>"$here/setup.log" || return 1; done
}

# fetch_sid FOLDER PACKAGE...: packages of Debian sid with all they depend on, unpacked into FOLDER/root.
fetch_sid() {
    local mirror base=$1
    shift
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 2>>"$here/setup.log" | grep -m 1 '/debian/*$')
    [ -n "$mirror" ] || return 1
    mkdir -p "$base"/{lists,cache/archives}/partial
    : >"$base/status"
    echo "deb [trusted=yes check-valid-until=no] $mirror sid main" >"$base/sources.list"
    local options=(-o Dir::Etc::sourcelist="$base/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$base/lists"
        -o Dir::State::status="$base/status" -o Dir::Cache="$base/cache" -o Acquire::Languages=none)
    apt "${options[@]}" update && apt "${options[@]}" install -y --download-only --no-install-recommends "$@" || return 1
    # The package with the links from /bin to /usr/bin comes first.
    for first in "$base"/cache/archives/base-files_*.deb; do
        [ ! -e "$first" ] || { mkdir -p "$base/root" && dpkg -x "$first" "$base/root"; } || return 1
    done
    unpack "$base/cache/archives" "$base/root"
}
