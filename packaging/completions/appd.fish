# Completion of appd(8) for fish.

function __appd_instances
    for file in /etc/appd/*.conf
        set -l name (string replace -r '.*/(.*)\.conf$' '$1' $file)
        test "$name" = appd; or echo $name
    end
    systemctl list-units --all --plain --no-legend 'appd@*' 2>/dev/null | string replace -rf '^appd@([^. ]+)\.(service|socket) .*' '$1'
end

function __appd_sockets
    for word in (commandline -opc)
        test -f $word; and string replace -rf '^\s*(tls-)?address\s+systemd:name=([^:\s]+).*' '$2=' <$word
    end
end

function __appd_types
    appd types 2>/dev/null | sed -n '/^$/q; s/ .*//p'
end

complete -c appd -f
set -l commands run check types explain units status reload log-level version
set -l first "not __fish_seen_subcommand_from $commands"
complete -c appd -n $first -a run -d 'serve what a configuration file says'
complete -c appd -n $first -a check -d 'say everything that is wrong with a configuration file'
complete -c appd -n $first -a types -d 'list the server types and their keys'
complete -c appd -n $first -a explain -d 'show descriptor, name, unit, server and factory of each address'
complete -c appd -n $first -a units -d 'make the .socket units that a file asks for'
complete -c appd -n $first -a status -d 'show generation, workers, servers and the last reload'
complete -c appd -n $first -a reload -d 'read the file and the code anew'
complete -c appd -n $first -a log-level -d 'change the level of the log at run time'
complete -c appd -n $first -a version -d 'print the version'
complete -c appd -n '__fish_seen_subcommand_from run check explain units' -F
complete -c appd -n '__fish_seen_subcommand_from run' -l bind -x -a '(__appd_sockets)' -d 'NAME=ADDRESS'
complete -c appd -n '__fish_seen_subcommand_from run' -l single -d 'one worker alone'
complete -c appd -n '__fish_seen_subcommand_from run' -l control -r -F -d 'where the control socket goes'
complete -c appd -n '__fish_seen_subcommand_from check' -l units -x -a '(__fish_complete_directories)' -d 'compare with units'
complete -c appd -n '__fish_seen_subcommand_from check' -l connect -d 'connect to what the file names'
complete -c appd -n '__fish_seen_subcommand_from types' -a '(__appd_types)'
complete -c appd -n '__fish_seen_subcommand_from explain status' -l json -d 'as JSON'
complete -c appd -n '__fish_seen_subcommand_from units' -l output -x -a '(__fish_complete_directories)' -d 'write them'
complete -c appd -n '__fish_seen_subcommand_from units' -l diff -d 'show how the folder differs'
complete -c appd -n '__fish_seen_subcommand_from status reload log-level' -l socket -r -F -d 'the control socket'
complete -c appd -n '__fish_seen_subcommand_from status reload log-level' -l instance -x -a '(__appd_instances)' -d 'appd@NAME'
complete -c appd -n '__fish_seen_subcommand_from log-level' -a 'debug info warning error critical'
