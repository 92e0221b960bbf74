//! The suite against a single engine and against the manager over several: a row is green only where both agree.

#![expect(clippy::print_stdout, reason = "the table is what one reads when a row is red")]

mod lab;

use lab::{Engine, Manager};
use osier_conformance::{Host, Scenario, Session, Target, differences, report, run};
use std::{path::PathBuf, process::Command, sync::Arc};

/// The engines behind the manager.
const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

async fn session(host: &str, python: Option<&PathBuf>) -> Arc<Session> {
    let host = Host::open(host, None).await.expect("a host");
    Session::open(host, python.map(PathBuf::as_path)).await.unwrap_or_else(|e| panic!("{}", e.chain()))
}

/// A Python that can import docker, from PyPI, in a folder of its own.
fn docker_py(folder: &std::path::Path) -> PathBuf {
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
async fn shows(session: &Arc<Session>, difference: &differences::Difference) -> bool {
    let target: Target = session.target();
    let shown = (difference.probe)(&target).await.unwrap_or_else(|e| panic!("'{}': {}", difference.what, e.chain()));
    target.clean().await.unwrap_or_else(|e| panic!("'{}': {}", difference.what, e.chain()));
    shown
}

#[test]
fn the_differences_stand_in_the_specification() {
    let page = include_str!("../../../../SPECIFICATION.md");
    for difference in differences::ALL {
        let row = format!("| {} | {} |", difference.what, difference.why);
        assert!(page.contains(&row), "SPECIFICATION.md lacks:\n{row}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "some rows are still red"]
async fn the_manager_answers_as_a_single_engine_does() {
    let (alone, one, two, three) =
        tokio::join!(Engine::start("alone"), Engine::start(NODES[0]), Engine::start(NODES[1]), Engine::start(NODES[2]));
    let manager = Manager::start(&[one.address, two.address, three.address], &[]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let python = docker_py(folder.path());
    let hosts = [alone.host(), manager.host()];
    let sessions = [session(&hosts[0], Some(&python)).await, session(&hosts[1], Some(&python)).await];
    let scenarios: Vec<&Scenario> = Scenario::all().collect();
    let rows = run(&sessions, &scenarios, |_| {}).await;
    for difference in differences::ALL {
        assert!(!shows(&sessions[0], difference).await, "a single engine does it too: {}", difference.what);
        assert!(shows(&sessions[1], difference).await, "a cluster does not do it any more: {}", difference.what);
    }
    for session in &sessions {
        session.close().await.unwrap_or_else(|e| panic!("{}", e.chain()));
    }
    println!("{}", report::table(&rows, &["engine".to_owned(), "manager".to_owned()]));
    assert!(!rows.iter().any(|row| row.is_red()), "{}\n{}", report::sentence(&rows), manager.log());
}
