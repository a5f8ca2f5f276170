#!/bin/bash
# Boots a disposable host: systemd as process 1 of namespaces of its own, on a copy-on-write view of a root file system.
#
#   host.sh [--prepare PROGRAM] [--keep DIR]... ROOT [COMMAND [ARGUMENT]...]
#
# ROOT is a root file system; / is this machine's own. PROGRAM is run as `PROGRAM NEW-ROOT` before systemd is, to install
# what is to be there at boot. DIR is shown inside under its own path, though /tmp and /run are new there and other file
# systems are not; it may be changed, the original stays as it is.
#
# COMMAND runs inside, with this script's standard input, and gives the exit status. Without COMMAND the process id of
# the host's process 1 is printed (for nsenter) and the host lives until standard input ends.
# BOOT_UNIT= is the target to boot, basic.target is the quickest. Exit status 125: the host did not boot.
#
# The host has no network but its own loopback. Nothing of it is visible on the machine, and nothing stays, whoever is
# killed: the mounts live in a private mount namespace, over folders that are always there; process 1 dies with this
# script, and with process 1 all others; the control group, which alone has a name on the machine, is removed by a
# watcher in a session of its own.
set -euo pipefail

if [ -z "${HOST_SH_INSIDE:-}" ]; then
    HOST_SH_INSIDE=1 exec unshare --mount --propagation private -- "$0" "$@"
fi
unset HOST_SH_INSIDE

usage() { sed -n '4p' "$0" >&2; exit 125; }
prepare= keep=()
while [ $# -gt 0 ]; do
    case $1 in
        --prepare) prepare=$(readlink -f "$2"); shift 2 ;;
        --keep) keep+=("$(readlink -f "$2")"); shift 2 ;;
        -*) usage ;;
        *) break ;;
    esac
done
[ $# -gt 0 ] || usage
lower=$(readlink -f "$1"); shift

# What the machine has in /run is not needed here and not hidden from anybody else.
work=/run
mount -t tmpfs -o mode=0755 tmpfs $work
mkdir $work/cgroup $work/root $work/upper $work/scratch $work/keep
mount -t cgroup2 cgroup2 $work/cgroup

# systemd makes its groups below this one. It must be entered before the cgroup namespace is made, or they would appear
# in the machine's root group.
for old in $work/cgroup/appd-host-*; do
    [ -d "$old" ] && ! kill -0 "${old##*-}" 2>/dev/null && find "$old" -depth -type d -exec rmdir {} + 2>/dev/null || :
done
group=$work/cgroup/appd-host-$$
mkdir "$group"
# It ends when the last writer of the pipe has: that is this script, however it ends.
exec {watched}> >(exec setsid bash -c '
    trap "" INT TERM HUP
    cat >/dev/null
    for _ in {1..200}; do
        [ ! -e "$1/cgroup.kill" ] || echo 1 >"$1/cgroup.kill" || :
        find "$1" -depth -type d -exec rmdir {} + || :
        [ -d "$1" ] || exit 0
        sleep .02
    done
' watcher "$group" >/dev/null 2>&1)
watcher=$!

finish() {
    [ -z "${init:-}" ] || kill -KILL "$init" 2>/dev/null || :
    [ -z "${outer:-}" ] || { kill -KILL "$outer" 2>/dev/null || :; wait "$outer" 2>/dev/null || :; }
    exec {watched}>&-
    while [ -d "/proc/$watcher" ] && [ -d "$group" ]; do sleep .01; done
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

boot() {
    set -euo pipefail
    root=$work/root
    mount -t overlay overlay -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/scratch" $root

    mount -t proc proc $root/proc
    # systemd-sysctl and others would change the machine's kernel here.
    for name in sys sysrq-trigger bus irq; do
        [ -e $root/proc/$name ] || continue
        mount --bind $root/proc/$name $root/proc/$name
        mount -o remount,bind,ro $root/proc/$name
    done
    mount -t sysfs -o ro sysfs $root/sys
    mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
    mount -t tmpfs -o mode=0755 tmpfs $root/run
    mount -t tmpfs -o mode=1777 tmpfs $root/tmp
    mount -t tmpfs -o mode=0755 tmpfs $root/dev
    mkdir $root/dev/pts $root/dev/shm
    for name in null zero full random urandom tty; do
        : >$root/dev/$name
        mount --bind /dev/$name $root/dev/$name
    done
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts $root/dev/pts
    ln -s pts/ptmx $root/dev/ptmx
    ln -s /proc/self/fd $root/dev/fd
    for name in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${name%:*} $root/dev/${name#*:}; done

    local number=0 folder path
    for folder in "${keep[@]}"; do
        number=$((number + 1))
        mkdir -p $work/keep/$number/{upper,scratch} "$root$folder"
        mount -t overlay overlay -o "lowerdir=$folder,upperdir=$work/keep/$number/upper,workdir=$work/keep/$number/scratch" "$root$folder"
        # A daemon that is not root must get there, through /root or the folder that mktemp made.
        path=$folder
        while [ "$path" != / ]; do chmod a+rx "$root$path"; path=$(dirname "$path"); done
    done

    : >$root/etc/machine-id
    # Otherwise the linker's cache and others are made anew at each boot.
    touch $root/etc/.updated $root/var/.updated
    rm -f $root/etc/fstab $root/usr/sbin/policy-rc.d
    # What is about hardware, logins and the network of the machine.
    mkdir -p $root/run/systemd/system $root/run/host
    for name in systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket \
        systemd-udev-trigger.service systemd-networkd.service systemd-networkd.socket systemd-timesyncd.service \
        systemd-logind.service systemd-modules-load.service systemd-sysctl.service systemd-random-seed.service \
        systemd-binfmt.service getty.target console-getty.service modprobe@.service sys-kernel-config.mount \
        sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount dev-hugepages.mount; do
        ln -s /dev/null $root/run/systemd/system/$name
    done
    # systemd knows by this that it is in a container.
    echo appd-host >$root/run/host/container-manager
    echo appd-host >$root/etc/hostname
    ip link set lo up

    [ -z "$prepare" ] || "$prepare" $root

    cd $root
    mkdir .old
    pivot_root . .old
    umount -l /.old
    rmdir /.old
    # Otherwise LoadCredential= gives an empty folder.
    mount --make-rshared /
    exec env -i container=appd-host PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
        /lib/systemd/systemd --system --unit="${BOOT_UNIT:-multi-user.target}" --log-target=journal-or-kmsg --show-status=no
}
export -f boot
export work lower prepare

not_booted() { echo "host.sh: $1" >&2; cat $work/console >&2; exit 125; }

declare -p keep >$work/arguments
(
    exec {watched}>&-
    echo 0 >"$group/cgroup.procs"
    exec setpriv --pdeathsig KILL \
        unshare --pid --mount --propagation private --cgroup --uts --ipc --net --fork --kill-child --mount-proc \
        bash -c '. $work/arguments; boot'
) >$work/console 2>&1 </dev/null &
outer=$!

init=
for _ in {1..6000}; do
    kill -0 $outer 2>/dev/null || not_booted "the host ended while it was made"
    child=
    read -r child _ 2>/dev/null <"/proc/$outer/task/$outer/children" || : # no newline at the end
    if [ -n "$child" ] && [ "$(cat "/proc/$child/comm" 2>/dev/null)" = systemd ]; then init=$child; break; fi
    sleep .01
done
[ -n "$init" ] || not_booted "no systemd after a minute"
inside=(nsenter --target "$init" --pid --mount --net --cgroup --uts --ipc)
for _ in {1..6000}; do
    "${inside[@]}" test -S /run/systemd/private 2>/dev/null && break
    kill -0 "$init" 2>/dev/null || not_booted "systemd ended"
    sleep .01
done
state=$(timeout 120 "${inside[@]}" systemctl is-system-running --wait 2>/dev/null) || :
case $state in
    running | degraded) ;;
    *) not_booted "the state of the host is ${state:-unknown}" ;;
esac

if [ $# -gt 0 ]; then
    status=0
    "${inside[@]}" "$@" {watched}>&- || status=$?
    exit $status
fi
echo "$init"
cat >/dev/null {watched}>&-
