#!/usr/bin/zsh -f
# What an interactive zsh offers where a line ends: complete.zsh LINE. It prints the words, one a line.
#
# The shell runs on a pseudo-terminal and reads its completions as compinit finds them; what is offered is seen in `compadd`.
zmodload zsh/zpty
folder=$(mktemp -d) offered=$folder/words
trap 'rm -r $folder' EXIT
: >$offered
cat >$offered.rc <<END
PS1=
autoload -Uz compinit && compinit -u -d $offered.dump
compadd() {
    local -a words
    # With these nothing is offered: the caller asks what would match.
    if (( ! \${@[(I)-[AOD]]} )); then
        builtin compadd -O words "\$@"
        print -rl -- \$words >>$offered
    fi
    builtin compadd "\$@"
}
finish() { : >$offered.end }
zle -N finish
bindkey '^Y' finish
bindkey '^I' complete-word
: >$offered.ready
END
zpty shell zsh -f -i
zpty -w shell "source $offered.rc"
for _ in {1..300}; do [[ ! -e $offered.ready ]] || break; sleep 0.1; done
zpty -w -n shell "$1"$'\t\x19'
for _ in {1..300}; do [[ ! -e $offered.end ]] || break; sleep 0.1; done
[[ -e $offered.end ]] || { zpty -r shell said; print -r -- "no end: $said" >&2; exit 1 }
grep . $offered | sort -u
