//! A real registry of our own: Debian's, with a password and a certificate of a CA that only our engines know.
//!
//! Engines trust any certificate of a registry on 127.0.0.0/8, and none of another address without its CA. So the
//! registry is at `::1`, under a name that only the engines' own mount namespaces know.

use crate::world::until;
use osier_pki::{Authority, Subject};
use std::{
    fs,
    net::{Ipv6Addr, SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
};
use time::OffsetDateTime;

/// Who may use it.
pub(crate) const USER: &str = "tester";
/// The user's password.
pub(crate) const PASSWORD: &str = "a test password";
/// Both, as clients send them with a request.
pub(crate) const AUTH: &str = "eyJ1c2VybmFtZSI6ICJ0ZXN0ZXIiLCAicGFzc3dvcmQiOiAiYSB0ZXN0IHBhc3N3b3JkIn0=";
/// The password's hash (bcrypt).
const HASH: &str = "$2y$05$osierosierosierosierou5SFbsxaPaprLlqaQoICvRBSbFJdCaBe";
const HOST: &str = "registry.osier.test";

/// A running registry.
pub(crate) struct Registry {
    /// `host:port`, as image names begin with.
    pub(crate) name: String,
    folder: tempfile::TempDir,
    process: Child,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("osier-registry-").tempdir().unwrap();
        let port = osier_ports::free_at(Ipv6Addr::LOCALHOST);
        let address = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let now = OffsetDateTime::now_utc();
        let ca = Authority::create("registry", now).unwrap();
        let subject = Subject { name: HOST.into(), dns: vec![HOST.into()], addresses: Vec::new() };
        let issued = ca.issue(&subject, now).unwrap();
        let at = |file: &str| folder.path().join(file).display().to_string();
        let config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '{address}', tls: {{certificate: {}, key: {}}}}}\nauth: {{htpasswd: {{realm: osier, path: {}}}}}\n",
            at("data"),
            at("cert.pem"),
            at("key.pem"),
            at("users")
        );
        for (file, text) in [
            ("ca.crt", ca.cert_pem()),
            ("cert.pem", &issued.cert_pem),
            ("key.pem", &issued.key_pem),
            ("users", &format!("{USER}:{HASH}\n")),
            ("hosts", &format!("127.0.0.1 localhost\n::1 {HOST}\n")),
            ("config.yml", &config),
        ] {
            fs::write(folder.path().join(file), text).unwrap();
        }
        let process = Command::new("docker-registry")
            .args(["serve", &at("config.yml")])
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .expect("these tests need a registry (apt-get install docker-registry)");
        let registry = Self { name: format!("{HOST}:{port}"), folder, process };
        until("the registry listens", async || TcpStream::connect(address).is_ok()).await;
        registry
    }

    /// The mounts with which an engine finds the registry and trusts it (see [`crate::dockerd::Dockerd::start_in`]).
    pub(crate) fn mounts(&self) -> String {
        let (folder, certs) = (self.folder.path().display(), format!("/etc/docker/certs.d/{}", self.name));
        format!(
            "mount --bind {folder}/hosts /etc/hosts && mkdir -p /etc/docker && mount -t tmpfs tmpfs /etc/docker && \
             mkdir -p {certs} && cp {folder}/ca.crt {certs}/"
        )
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
