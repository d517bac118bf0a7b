#!/usr/bin/env bash
# Runs in a manylinux_2_28 container: Node of NODE_VERSION for ARCH, then the prebuilt addon.
set -euo pipefail
archive="node-v$NODE_VERSION-linux-$ARCH.tar.xz"
cd /tmp
curl -fsSLO "https://nodejs.org/dist/v$NODE_VERSION/$archive"
curl -fsSL "https://nodejs.org/dist/v$NODE_VERSION/SHASUMS256.txt" | grep " $archive\$" | sha256sum --check
tar -xJf "$archive"
export PATH="/tmp/node-v$NODE_VERSION-linux-$ARCH/bin:/opt/python/cp311-cp311/bin:$PATH"
python3 -m pip install --quiet 'cmake>=3.22,<4'
git config --global --add safe.directory /src
cd /src
npm run prebuilds
