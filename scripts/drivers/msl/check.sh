#!/bin/sh
# Types of Metal sources, by clang.   check.sh CLANG SHADER.metal...   prints `pass NAME` or `FAIL NAME: message` for each.
clang=$1
here=$(dirname "$0")
shift
for file; do
    # aarch64: a target where clang has numbers of 16 bits. Constants are float there, as in Metal.
    if errors=$(sed -E 's/\b(metal::)?((float|half|u?int|u?short|u?char|u?long|bool)[234]|packed_u?char4)\(/metal::make<metal::\2>(/g
            s/static_cast</metal::convert</g' "$file" |
        "$clang" --target=aarch64-linux-gnu -x c++ -std=c++17 -fsyntax-only -Xclang -cl-single-precision-constant -nostdinc -isystem "$here" -w -ferror-limit=3 - 2>&1); then
        echo "pass $(basename "$file")"
    else
        echo "FAIL $(basename "$file"): $(echo "$errors" | grep -m 2 error: | tr '\n' ' ')"
    fi
done
