#!/bin/sh
# Installs RPM= into ROOT, the root of a host that is about to boot, with an empty database of rpm: by the rpm in it, since the
# machine may have none. Dependencies are what dpkg has installed there.
set -eu
chroot "$1" sh -euc 'rpm --root / --initdb; rpm --root / --install --nodeps "$0"' "$RPM" >&2
mkdir -p "$1/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\n' >"$1/etc/systemd/journald.conf.d/test.conf"
