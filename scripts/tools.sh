#!/bin/sh
# Makes sure that the tools are there which the tests judge the command's JSON by: jq, and Python
# with jsonschema. Does nothing where they are, else installs them on Debian and Ubuntu.
set -eu
if command -v jq >/dev/null 2>&1 && python3 -c 'import jsonschema' >/dev/null 2>&1; then
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "The tests need jq, and Python 3 with jsonschema: install both (pip install jsonschema)." >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
echo "Installing jq and Python's jsonschema: $sudo apt-get install jq python3-jsonschema"
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends jq python3-jsonschema >/dev/null
