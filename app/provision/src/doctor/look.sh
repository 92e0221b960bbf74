# What is to be known of a host with Osier on it, one NAME=VALUE per line. Reads only; needs root.
LC_ALL=C
export LC_ALL
show() { systemctl show --property="$1" --value "$2" 2>/dev/null; }
last() { printf '%s\n' "$1" | tail -n 1; }
for unit in docker.service osier-plugin.socket osier-agent.service osier-manager.service; do
    [ "$(show LoadState "$unit")" = loaded ] && echo "service=$unit $(systemctl is-active "$unit") $(show NRestarts "$unit")"
done
echo "free=$(df -Pk /var/lib 2>/dev/null | awk 'NR == 2 { print $4 }')"
echo "inodes=$(df -Pi /var/lib 2>/dev/null | awk 'NR == 2 && $2 > 0 { print $4 }')"
if command -v docker >/dev/null; then
    engine="timeout 20 docker -H unix:///var/run/docker.sock version"
    if out=$($engine --format '{{.Server.Version}}' 2>/dev/null); then
        echo "engine=$out"
    else
        echo "engine_error=$(last "$($engine 2>&1 >/dev/null)")"
    fi
fi
agent="timeout 20 /usr/local/bin/osier status -o json"
if out=$($agent 2>/dev/null); then
    echo "agent=$(printf '%s' "$out" | tr -d '\n')"
else
    echo "agent_error=$(last "$($agent 2>&1 >/dev/null)")"
fi
exit 0
