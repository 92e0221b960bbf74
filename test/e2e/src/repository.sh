# A source of packages on this host: the distribution's engine under another version, signed by a key of its own.
set -e
cd /srv
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends gpg gpg-agent >/dev/null
mkdir -p repository
for name in docker.io $(apt-cache show docker-cli >/dev/null 2>&1 && echo docker-cli); do
    apt-get -qq download "$name"
    dpkg-deb -R "$name"_*.deb "$name"
    rm "$name"_*.deb
    sed -i 's/^Version: .*/&+test1/' "$name/DEBIAN/control"
    dpkg-deb -Znone -b "$name" "repository/$name.deb" >/dev/null
    {
        cat "$name/DEBIAN/control"
        echo "Filename: ./$name.deb"
        echo "Size: $(stat -c %s "repository/$name.deb")"
        echo "SHA256: $(sha256sum <"repository/$name.deb" | cut -d ' ' -f 1)"
        echo
    } >>repository/Packages
    rm -r "$name"
done
export GNUPGHOME=/srv/gnupg
mkdir -m 700 gnupg
gpg --batch --quiet --passphrase '' --quick-generate-key test@example.org ed25519 sign
gpg --export >repository/key.gpg
cd repository
{
    echo "Date: $(LC_ALL=C date -u '+%a, %d %b %Y %H:%M:%S UTC')"
    echo SHA256:
    echo " $(sha256sum <Packages | cut -d ' ' -f 1) $(stat -c %s Packages) Packages"
} >Release
gpg --batch --quiet --clearsign --output InRelease Release
gpgconf --kill all
sed -n 's/^Version: //p' Packages | head -n 1
