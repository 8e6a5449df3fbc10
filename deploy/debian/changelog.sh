#!/bin/sh
# Debian's changelog, which says no more than the version: CHANGELOG.md says the rest.
set -eu
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
date=$(date --utc --rfc-email --date="@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}")
cat <<END
spillway ($version-1) stable; urgency=medium

  * Spillway $version: see /usr/share/doc/spillway/changelog.gz.

 -- The Spillway authors <maintainers@spillway.example>  $date
END
