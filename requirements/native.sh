#!/bin/sh
# Builds the wheel of the bindings of Argon2 from the locked source, with the flags in CFLAGS: native.sh PYTHON DIRECTORY.
# What builds it is installed for PYTHON; the wheel goes into DIRECTORY. A C compiler has to be there.
set -eu
python=$1 wheels=$2
locked=$(dirname "$0")
pip() { "$python" -m pip --disable-pip-version-check --quiet "$@"; }
pip install --require-hashes --requirement "$locked/native.txt"
sed -n '/^argon2-cffi-bindings==/,/^    # via/p' "$locked/server.txt" >"$wheels/argon2.txt"
# The compiler writes its flags into the library, where `pickguard doctor` reads them. Only ELF has a place for that.
[ "$(uname -s)" != Linux ] || CFLAGS="$CFLAGS -frecord-gcc-switches"
# Without the cache, which does not tell one wheel from another that was built with other flags.
CFLAGS=$CFLAGS pip wheel --require-hashes --no-deps --no-build-isolation --no-cache-dir --no-binary argon2-cffi-bindings \
    --requirement "$wheels/argon2.txt" --wheel-dir "$wheels"
rm "$wheels/argon2.txt"
