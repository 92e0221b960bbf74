# Facts about a host for the preflight, one NAME=VALUE per line. Reads only; needs nothing beyond a minimal Debian.
LC_ALL=C
export LC_ALL
free() { df -Pk "$1" 2>/dev/null | { read -r _; read -r _ _ _ kib _ && echo "$2=$kib"; }; }
digest() { [ -f "$1" ] && sha256sum "$1" | { read -r sum _ && echo "$2=$sum"; }; }
echo "time=$(date +%s)"
echo "machine=$(uname -m)"
echo "architecture=$(dpkg --print-architecture 2>/dev/null)"
[ -d /run/systemd/system ] && echo systemd=yes
command -v dockerd >/dev/null && echo engine=yes
free /var/lib free_var
free /usr/local free_usr
digest /usr/local/bin/osier binary
digest /etc/osier/pki/ca.pem ca
sed -n 's/.*"me": *"\([0-9a-f:]*\)".*/peer=\1/p' /var/lib/osier/ring.json 2>/dev/null
for path in /usr/local/bin/osier /etc/osier /var/lib/osier /var/lib/osier-engine.json /usr/local/lib/systemd/system/osier-agent.service; do
    [ -e "$path" ] && echo traces=yes
done
[ -e /usr/local/lib/systemd/system/osier-agent.service ] && echo node=yes
for name in docker-swarm swarm weave; do
    at=/usr/local/bin/$name
    { [ -e "$at" ] || [ -L "$at" ]; } && [ "$(readlink "$at")" != osier ] && echo "taken=$name"
done
for address in $(hostname -I 2>/dev/null); do echo "address=$address"; done
echo "source=$(ip -4 route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p')"
sed 's/^/os=/' /etc/os-release 2>/dev/null
sed '1d; s/^/route=/' /proc/net/route 2>/dev/null
exit 0
