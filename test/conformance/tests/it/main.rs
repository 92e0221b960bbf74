//! The suite against a single engine and against the manager over several: a row is green only where both agree.

mod lab;

use lab::{Engine, Manager};
use osier_conformance::{Area, Failure, Host, Scenario, Session, Target, differences, report, run};
use osier_pki::{Authority, Identity, Subject};
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};
use tokio_rustls::TlsAcceptor;

async fn session(host: &str, python: Option<&PathBuf>) -> Arc<Session> {
    let host = Host::open(host, None).await.expect("a host");
    Session::open(host, python.map(PathBuf::as_path)).await.unwrap_or_else(|e| panic!("{}", e.chain()))
}

/// A Python that can import docker, from PyPI, in a folder of its own.
fn docker_py(folder: &Path) -> PathBuf {
    let python = folder.join("bin/python");
    let must = |command: &mut Command, hint: &str| {
        let output = command.output().unwrap_or_else(|e| panic!("run {command:?}: {e} ({hint})"));
        assert!(output.status.success(), "{command:?} ({hint}): {}", String::from_utf8_lossy(&output.stderr));
    };
    must(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(folder), "Debian: python3-venv");
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "docker==7.1.0", "requests==2.32.3"];
    must(Command::new(&python).args(pip), "PyPI must be reachable");
    python
}

/// Whether a host shows a difference.
async fn shows(session: &Arc<Session>, difference: &differences::Difference) -> Result<bool, Failure> {
    let target: Target = session.target();
    let shown = (difference.probe)(&target).await;
    target.clean().await.and(shown)
}

#[test]
fn the_differences_stand_in_the_specification() {
    let page = include_str!("../../../../SPECIFICATION.md");
    for difference in differences::ALL {
        let row = format!("| {} | {} |", difference.what, difference.why);
        assert!(page.contains(&row), "SPECIFICATION.md lacks:\n{row}");
    }
}

/// What is not green, in the words that a test ends with: a panic's trace would stand below them.
struct NotGreen(String);

impl std::fmt::Debug for NotGreen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs all scenarios on two hosts and fails unless every row is green on both and every difference that is meant is there.
/// What is wrong is told together and last: logs are cut.
async fn judge(engine: &Engine, manager: &Manager) -> Result<(), NotGreen> {
    let folder = tempfile::tempdir().expect("a folder");
    let python = docker_py(folder.path());
    let sessions = [session(&engine.host(), Some(&python)).await, session(&manager.host(), Some(&python)).await];
    let scenarios: Vec<&Scenario> = Scenario::all().collect();
    let rows = run(&sessions, &scenarios, |_| {}).await;
    let mut wrong = Vec::new();
    for difference in differences::ALL {
        for (session, meant, who) in [(&sessions[0], false, "a single engine"), (&sessions[1], true, "a cluster")] {
            match shows(session, difference).await {
                Ok(shown) if shown == meant => {}
                Ok(true) => wrong.push(format!("{who} does it too: {}", difference.what)),
                Ok(false) => wrong.push(format!("{who} does not do it any more: {}", difference.what)),
                Err(e) => {
                    wrong.push(format!("{who} cannot be asked whether it does it: {}: {}", difference.what, e.chain()));
                }
            }
        }
    }
    for session in &sessions {
        if let Err(e) = session.close().await {
            wrong.push(format!("the suite cannot clean up: {}", e.chain()));
        }
    }
    if wrong.is_empty() && !rows.iter().any(|row| row.is_red()) {
        return Ok(());
    }
    let hosts = ["engine".to_owned(), "manager".to_owned()];
    Err(NotGreen(format!("\n{}\n\n{}\n{}", manager.log(), wrong.join("\n"), report::red(&rows, &hosts))))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manager_answers_as_a_single_engine_does() -> Result<(), NotGreen> {
    let (alone, one, two, three) =
        tokio::join!(Engine::start("alone"), Engine::start("node-1"), Engine::start("node-2"), Engine::start("node-3"));
    judge(&alone, &Manager::start(&[one.address, two.address, three.address]).await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "tier full: unpacks two more Debians"]
async fn engines_of_three_generations_answer_as_one_does() -> Result<(), NotGreen> {
    let folder = tempfile::tempdir().expect("a folder");
    let (trixie, forky) = (folder.path().join("trixie"), folder.path().join("forky"));
    lab::debootstrap("trixie", &trixie);
    lab::debootstrap("forky", &forky);
    let (alone, one, two, three) = tokio::join!(
        Engine::start("alone"),
        Engine::start("node-1"),
        Engine::start_in("node-2", &trixie),
        Engine::start_in("node-3", &forky)
    );
    judge(&alone, &Manager::start(&[one.address, two.address, three.address]).await).await
}

/// A folder of `ca.pem`, `cert.pem` and `key.pem` for a client, and a server's side of the same authority.
fn certificates(folder: &Path) -> TlsAcceptor {
    let now = time::OffsetDateTime::now_utc();
    let authority = Authority::create("conformance", now).expect("an authority");
    let issue = |name: &str| {
        let subject = Subject { name: name.into(), dns: Vec::new(), addresses: vec![Ipv4Addr::LOCALHOST.into()] };
        authority.issue(&subject, now).expect("a certificate")
    };
    let client = issue("client");
    for (file, text) in [("ca.pem", authority.cert_pem()), ("cert.pem", &client.cert_pem), ("key.pem", &client.key_pem)]
    {
        std::fs::write(folder.join(file), text).expect("a file");
    }
    let server = Identity::from_issued(authority.cert_pem(), &issue("server")).expect("an identity");
    server.server().expect("a server's side").into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_with_tls_are_judged_too() {
    let engine = Engine::start("alone").await;
    let folder = tempfile::tempdir().expect("a folder");
    let address = engine.serve_tls(certificates(folder.path())).await;
    let host = Host::open(&format!("tcp://{address}"), Some(folder.path())).await.expect("a host");
    let session = Session::open(host, None).await.unwrap_or_else(|e| panic!("{}", e.chain()));
    let areas = [Area::System, Area::Exec, Area::Attach, Area::Cli];
    let scenarios: Vec<&Scenario> = Scenario::all().filter(|s| areas.contains(&s.area)).collect();
    let rows = run(std::slice::from_ref(&session), &scenarios, |_| {}).await;
    session.close().await.unwrap_or_else(|e| panic!("{}", e.chain()));
    assert!(!rows.iter().any(|row| row.is_red()), "{}", report::red(&rows, &["engine".to_owned()]));
}
