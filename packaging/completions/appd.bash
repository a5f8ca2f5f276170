# Completion of appd(8) for bash.

# Files that end in .conf, and folders.
_appd_files() {
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -X '!*.conf' -- "$1"; compgen -d -- "$1")
}

# The instances that have a file or a unit.
_appd_instances() {
    local file
    for file in /etc/appd/*.conf; do
        file=${file##*/}
        [ "$file" = '*.conf' ] || [ "$file" = appd.conf ] || echo "${file%.conf}"
    done
    systemctl list-units --all --plain --no-legend 'appd@*' 2>/dev/null | sed -nE 's/^appd@([^. ]+)\.(service|socket) .*/\1/p'
}

# The names of sockets that the file of the command line asks systemd for.
_appd_sockets() {
    local word
    for word in "${COMP_WORDS[@]:2}"; do
        [ ! -f "$word" ] || sed -nE 's/^[[:space:]]*(tls-)?address[[:space:]]+systemd:name=([^:[:space:]]+).*/\2=/p' "$word"
    done
}

_appd() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} words=
    COMPREPLY=()
    case $before in
        --units | --output) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
        --control | --socket) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
        --instance) words=$(_appd_instances) ;;
        --bind) compopt -o nospace; words=$(_appd_sockets) ;;
    esac
    if [ -z "$words" ]; then
        case $COMP_CWORD:$command in
            1:*) words='run check types explain units status reload log-level version --help' ;;
            *:run) words='--bind --single --control --help' ;;
            *:check) words='--units --connect --help' ;;
            *:explain) words='--json --help' ;;
            *:units) words='--output --diff --help' ;;
            *:types) words="$(appd types 2>/dev/null | sed -n '/^$/q; s/ .*//p') --help" ;;
            *:status) words='--socket --instance --json --help' ;;
            *:reload) words='--socket --instance --help' ;;
            *:log-level) words='debug info warning error critical --socket --instance --help' ;;
        esac
        if [[ $COMP_CWORD -gt 1 && $word != -* && $command =~ ^(run|check|explain|units)$ ]]; then
            _appd_files "$word"
            return
        fi
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _appd appd
