# Ends a process and all that came of it: the processes below it and those of their sessions. First politely.
first=$1
case $first in '' | *[!0-9]* | 0 | 1) exit 1 ;; esac

# Reads what is known of a process: state, parent, group, session. Its name, which may hold anything, comes before.
stat() {
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    state=${line##*) }
}

# Finds them all: in "all" every one that was ever found, in "left" what is no zombie. It reads about every process.
look() {
    more=1
    while [ -n "$more" ]; do
        more= left=
        for pid in /proc/[0-9]*; do
            pid=${pid#/proc/}
            stat "$pid" || continue
            set -- $state
            case $all in
            *" $pid "*) ;;
            *)
                case $all in *" $2 "* | *" $4 "*) all="$all$pid " more=1 ;; *) continue ;; esac
                ;;
            esac
            case $1 in Z | X) ;; *) left="$left$pid " ;; esac
        done
    done
}

# Whether one of those that were found lives.
lives() {
    for pid in $left; do
        stat "$pid" || continue
        case $state in Z* | X*) ;; *) return 0 ;; esac
    done
    return 1
}

all=" $first "
look
[ -z "$left" ] || kill -TERM $left 2>/dev/null
n=0
while lives && [ "$n" -lt 20 ]; do
    n=$((n + 1))
    sleep 0.1
done
# By force, and with them what they have started meanwhile.
n=0
while look && [ -n "$left" ]; do
    kill -KILL $left 2>/dev/null
    n=$((n + 1))
    [ "$n" -lt 20 ] || exit 1
    sleep 0.1
done
