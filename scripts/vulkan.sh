#!/bin/sh
# Makes sure that there is a GPU adapter: does nothing where `qmatmul devices` finds one, else installs the Vulkan loader
# and Mesa's software driver on Debian and Ubuntu.   vulkan.sh PATH-OF-QMATMUL
set -eu
qmatmul=$1
if "$qmatmul" devices >/dev/null 2>&1; then
    exit 0
fi
echo "No GPU adapter found."
if ! command -v apt-get >/dev/null 2>&1; then
    "$qmatmul" devices # says what to install
fi
if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
echo "Installing the Vulkan loader and Mesa's software driver: $sudo apt-get install libvulkan1 mesa-vulkan-drivers"
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends libvulkan1 mesa-vulkan-drivers >/dev/null
"$qmatmul" devices >/dev/null
