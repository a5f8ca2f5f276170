#!/bin/sh
# Installs appd into ROOT, the root of a host that is about to boot: where a package puts things.
# APPD_BIN= is the folder of the appd and twistd to be installed, ENABLE= the units to start at boot, KEPT= the folders that
# these and their Python lie in, SANDBOX=inbound-only takes the network from the services.
set -eu
root=$1
source=$(dirname "$(dirname "$(dirname "$(readlink -f "$0")")")")

ln -sf "$APPD_BIN/appd" "$root/usr/bin/"
if [ -e "$APPD_BIN/twistd" ]; then
    ln -sf "$APPD_BIN/twistd" "$root/usr/bin/"
else # Debian's, by another name and with a Python that does not see the virtual environment
    printf '#!/bin/sh\nexec %s /usr/bin/twistd3 "$@"\n' "$APPD_BIN/python" >"$root/usr/bin/twistd"
    chmod 755 "$root/usr/bin/twistd"
fi
mkdir -p "$root/usr/lib/systemd/system" "$root/usr/lib/sysusers.d" "$root/etc/appd" "$root/etc/systemd/journald.conf.d"
cp "$source"/units/*.service "$source"/units/*.socket "$root/usr/lib/systemd/system/"
cp "$source/units/appd.sysusers" "$root/usr/lib/sysusers.d/appd.conf"
cp "$source/etc/appd.conf" "$root/etc/appd/appd.conf"
for service in appd appd@; do
    mkdir -p "$root/usr/lib/systemd/system/$service.service.d"
    # Where a package would put appd ProtectHome= and PrivateTmp= hide nothing of it; a checkout may lie anywhere.
    for folder in ${KEPT:-}; do
        case $folder in
            /home/* | /root/* | /run/user/*) printf '[Service]\nProtectHome=tmpfs\nBindReadOnlyPaths=%s\n' "$folder" ;;
            /tmp/* | /var/tmp/*) printf '[Service]\nBindReadOnlyPaths=%s\n' "$folder" ;;
        esac
    done >"$root/usr/lib/systemd/system/$service.service.d/10-checkout.conf"
    [ -z "${SANDBOX:-}" ] || cp "$source/units/$SANDBOX.conf" "$root/usr/lib/systemd/system/$service.service.d/20-$SANDBOX.conf"
done
systemd-sysusers --root="$root" appd.conf 2>/dev/null

# journald's own limit would hide what appd does when very much is logged.
printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n' >"$root/etc/systemd/journald.conf.d/test.conf"
# shellcheck disable=SC2086 # a list of units
[ -z "${ENABLE:-}" ] || systemctl --quiet --root="$root" enable $ENABLE
