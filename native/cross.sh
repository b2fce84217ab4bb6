#!/usr/bin/env bash
# Compiles the core for aarch64 and runs tests on it under qemu: native/cross.sh FOLDER [pytest arguments].
# FOLDER gets a Python and a C library of Debian for aarch64 (downloaded by apt-get and unpacked, nothing is installed),
# NumPy and pytest as wheels, the objects, and a copy of the package with that core. What is there is not fetched again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$PWD/$1
shift
venv=$PWD/.venv

left_out() {
    echo "aarch64: left out, $1"
    exit 0
}
for tool in apt-get dpkg aarch64-linux-gnu-g++ qemu-aarch64; do
    command -v "$tool" >/dev/null ||
        left_out "it needs Debian or Ubuntu with: apt-get install g++-aarch64-linux-gnu qemu-user"
done

. native/core_copy.sh

fetch_python() {
    local state=$folder/apt packages
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$folder/debs" "$folder/new"
    : >"$state/status"
    local apt=(apt-get -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$state"
        -o Dir::State::Lists="$state/lists" -o Dir::State::status="$state/status" -o Dir::Cache="$state/cache"
        -o APT::Sandbox::User="$(id -un)")
    "${apt[@]}" update || return 1
    packages=$("${apt[@]}" -s install --no-install-recommends python3 libpython3-dev libstdc++6 | awk '/^Inst/ { print $2 }')
    (cd "$folder/debs" && "${apt[@]}" download $packages) || return 1
    for package in "$folder"/debs/*.deb; do dpkg -x "$package" "$folder/new"; done
    mv "$folder/new" "$folder/sysroot"
}

mkdir -p "$folder"
if [ ! -d "$folder/sysroot" ]; then
    echo "fetching a Python for aarch64"
    quietly fetch_python || left_out "its packages cannot be fetched"
fi

# The emulated interpreter tells CMake what to compile for, and runs the tests. To the processes that tests start it
# names this script as itself.
python=$folder/python
printf '#!/bin/sh\nexec qemu-aarch64 -0 %s -L %s -E PYTHONHOME=%s -E PYTHONPATH=%s:%s %s "$@"\n' \
    "$python" "$folder/sysroot" "$folder/sysroot/usr" "$folder/package" "$folder/site" "$folder/sysroot/usr/bin/python3" >"$python"
chmod +x "$python"
if [ ! -d "$folder/site" ]; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    platforms=(--platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64)
    quietly "$venv/bin/python" -m pip install --disable-pip-version-check --target "$folder/new" --only-binary=:all: \
        "${platforms[@]}" --implementation cp --python-version "$version" nanobind numpy pytest Pillow safetensors
    mv "$folder/new" "$folder/site"
fi

echo "building the C++ core for aarch64 (the first time: a few minutes)"
printf '%s\n' 'set(CMAKE_SYSTEM_NAME Linux)' 'set(CMAKE_SYSTEM_PROCESSOR aarch64)' \
    'set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)' "set(CMAKE_CXX_FLAGS_INIT \"-idirafter $folder/sysroot/usr/include\")" \
    >"$folder/toolchain.cmake"
build_core_copy -DCMAKE_TOOLCHAIN_FILE="$folder/toolchain.cmake" -DPython_EXECUTABLE="$python"

PYTHONDONTWRITEBYTECODE=1 "$python" -m pytest -p no:cacheprovider "$@"
