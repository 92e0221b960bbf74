# Fetches packages with all that they need on a bare system, and writes an archive of them to standard output, each under its digest
# with its control file beside it. Arguments: the packages. Standard input: an archive of files for apt, and its proxies. Nothing is
# installed: apt works in a folder of its own, which goes in the end.
umask 022
LC_ALL=C DEBIAN_FRONTEND=noninteractive
export LC_ALL DEBIAN_FRONTEND
t=$(mktemp -d /var/tmp/osier-bundle-XXXXXXXX) || exit 1
trap 'rm -rf -- "$t"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM
cd "$t" && mkdir -p sources.list.d preferences.d lists/partial archives/partial out || exit 1
for kind in sources.list.d preferences.d; do
    for file in /etc/apt/$kind/*; do
        case $file in
        */osier-docker.*) ;;
        *) if [ -f "$file" ]; then cp -- "$file" $kind/ || exit 1; fi ;;
        esac
    done
done
tar -xf - --no-same-owner && . ./proxies || exit 1
source=sources.list.d/osier-docker.list
if [ -f $source ]; then sed -i "s#=/etc/apt/keyrings/osier-docker#=$t/keyrings/osier-docker#" $source || exit 1; fi
: >status
options="-q -oAPT::Sandbox::User=root -oAPT::Install-Recommends=false -oAPT::Get::Always-Include-Phased-Updates=true
    -oDir::State=$t -oDir::State::status=$t/status -oDir::State::lists=$t/lists -oDir::Cache=$t
    -oDir::Etc::sourceparts=$t/sources.list.d -oDir::Etc::preferencesparts=$t/preferences.d"
failed() {
    grep -v '^\(Get\|Hit\|Ign\|Reading\|Building\|Fetched\|Inst\|Conf\|Selecting\|Selected\)' "$t/log" | tail -n 8 >&2
    exit 1
}
apt-get $options update >log 2>&1 || failed
# A host whose kernel has AppArmor needs its parser.
if apt-cache $options show apparmor >/dev/null 2>&1; then set -- "$@" apparmor; fi
apt-get $options -s -y install "$@" >plan 2>>log || { cat plan >>log && failed; }
sed -n 's/^Inst \([^ ]*\) (\([^ ]*\) .*/\1=\2/p' plan >names
cd out && xargs apt-get $options download <../names >>../log 2>&1 || failed
for file in *.deb; do
    sum=$(sha256sum <"$file") && sum=${sum%% *} && dpkg-deb -f "$file" >"$sum.control" && mv -- "$file" "$sum.deb" || exit 1
done
tar -cf - .
