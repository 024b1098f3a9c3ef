#!/bin/bash
# versitygw.sh TARGET: a server that speaks S3 over a directory, built from the Go modules of its project. The checksum
# database of Go's proxy vouches for what is fetched.
set -euo pipefail
target=$1
mkdir -p "$target"
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
# GOBIN, and a cache of its own for what is compiled: it would stay for good otherwise.
GOBIN=$build/bin GOCACHE=$build/cache GOFLAGS='-buildvcs=false -trimpath' \
  go install "github.com/versity/versitygw/cmd/versitygw@v$RELEASE"
install -m 0755 "$build/bin/versitygw" "$target/"
