# For native/cross.sh and native/sanitize.sh, which source it: a core compiled elsewhere than in src/, and a copy of the
# package around it. Needs $venv and $folder.

quietly() { # shows what a command says only when it fails
    "$@" >"$folder/log" 2>&1 || { cat "$folder/log" >&2 && return 1; }
}

build_core_copy() { # options of CMake: objects in $folder/objects, the package in $folder/package
    quietly "$venv/bin/cmake" -S . -B "$folder/objects" -G Ninja -DCMAKE_MAKE_PROGRAM="$venv/bin/ninja" \
        --log-level=ERROR "$@"
    quietly "$venv/bin/cmake" --build "$folder/objects" --parallel "${JOBS:-2}"
    rm -rf "$folder/package"
    mkdir -p "$folder/package"
    cp -R src/fovea "$folder/package"
    rm -f "$folder"/package/fovea/engines/native/_core*
    quietly "$venv/bin/cmake" --install "$folder/objects" --prefix "$folder/package"
}
