# Ends a process and all that came of it: the processes below it and those of their sessions. First politely.
first=$1
case $first in '' | *[!0-9]* | 0 | 1) exit 1 ;; esac

# Finds them all and keeps those that live: in "all" every one that was ever found, in "left" what is no zombie.
look() {
    more=1
    while [ -n "$more" ]; do
        more= left=
        for file in /proc/[0-9]*/stat; do
            { read -r line <"$file"; } 2>/dev/null || continue
            pid=${line%% *}
            # Behind the name, which may hold anything: state, parent, group, session.
            set -- ${line##*) }
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

all=" $first "
look
[ -z "$left" ] || kill -TERM $left 2>/dev/null
n=0
while look && [ -n "$left" ]; do
    n=$((n + 1))
    [ "$n" -lt 20 ] || kill -KILL $left 2>/dev/null
    [ "$n" -lt 40 ] || exit 1
    sleep 0.1
done
