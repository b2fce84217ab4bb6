#!/usr/bin/env bash
# Runs tests on a core compiled with sanitizers: native/sanitize.sh address,undefined|thread FOLDER [pytest arguments].
# FOLDER gets the objects, a copy of the package with that core, and an interpreter that sees the copy in place of the
# editable installation, as do the processes that tests start. The core in src/ stays as it is. Linux and gcc.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
sanitizers=$1 folder=$PWD/$2
shift 2
venv=$PWD/.venv
if [ "$(uname -s)" != Linux ] || ! ${CXX:-c++} --version | grep -q "Free Software Foundation"; then
    echo "sanitizers: left out, they are set up for Linux with gcc"
    exit 0
fi

. native/core_copy.sh

echo "building the C++ core with -fsanitize=$sanitizers (the first time: a few minutes)"
mkdir -p "$folder"
build_core_copy -DPython_EXECUTABLE="$venv/bin/python" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DFOVEA_SANITIZE="$sanitizers"

[ -x "$folder/python/bin/python" ] || "$venv/bin/python" -m venv --without-pip "$folder/python"
site='import sysconfig; print(sysconfig.get_path("purelib"))'
printf '%s\n' "$folder/package" "$("$venv/bin/python" -c "$site")" >"$("$folder/python/bin/python" -c "$site")/paths.pth"

# The sanitizer's library must come before all others, and the C++ library early enough for it to see exceptions.
libraries=$(ldd "$folder"/package/fovea/engines/native/_core*.so | awk '/lib(asan|tsan|stdc\+\+)\./ { print $3 }' | sort)
# Findings go to files: pytest holds back what a test that ends the process, or a process of its own, has written.
findings=$folder/finding
rm -f "$findings".*
export ASAN_OPTIONS="detect_leaks=0:log_path=$findings" UBSAN_OPTIONS="print_stacktrace=1:log_path=$findings"
export TSAN_OPTIONS="halt_on_error=1:die_after_fork=0:log_path=$findings" PYTHONDONTWRITEBYTECODE=1
status=0
LD_PRELOAD=${libraries//$'\n'/ } "$folder/python/bin/python" -m pytest -p no:cacheprovider "$@" || status=$?
for finding in "$findings".*; do
    [ -e "$finding" ] || continue
    cat "$finding" >&2
    status=1
done
exit $status
