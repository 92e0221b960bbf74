//! The playbooks in `ansible/`, run by ansible-playbook on real hosts: they end where the program itself does.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../app/cli/tests/it/ansible_env.rs"]
mod ansible_env;

use anyhow::{Context, Result, ensure};
use osier_e2e::Cluster;
use std::{collections::BTreeMap, path::Path, process::ExitCode};

#[test]
fn the_playbooks_do_what_the_program_does() -> ExitCode {
    osier_e2e::verdict(play())
}

/// A cluster's inventory, and where Ansible is.
struct Play {
    cluster: Cluster,
    ansible: String,
    home: tempfile::TempDir,
}

impl Play {
    /// How many tasks changed each host.
    fn run(&self, playbook: &str, options: &str) -> Result<BTreeMap<String, u32>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ansible").canonicalize()?;
        let (home, inventory) = (self.home.path().display(), self.cluster.inventory().display());
        let line = format!(
            "env ANSIBLE_CONFIG={home}/ansible.cfg ANSIBLE_HOME={home} ANSIBLE_NOCOLOR=1 {}/ansible-playbook -i {inventory} \
             {}/{playbook} {options}",
            self.ansible,
            folder.display(),
        );
        let said = self.cluster.sh(&line)?;
        let recap = said.lines().skip_while(|line| !line.starts_with("PLAY RECAP")).skip(1);
        let changed = |line: &str| {
            let (host, counts) = line.split_once(" : ")?;
            let changed = counts.split_whitespace().find_map(|word| word.strip_prefix("changed="))?;
            Some((host.trim().to_owned(), changed.parse().ok()?))
        };
        Ok(recap.filter_map(changed).collect())
    }

    /// Whether a node has the cluster's configuration.
    fn is_set_up(&self, node: &str) -> Result<bool> {
        Ok(self.cluster.try_on(node, "test -e /etc/osier/agent.json")?.status.success())
    }
}

fn play() -> Result<()> {
    let home = tempfile::tempdir()?;
    let (password, vaulted) = (home.path().join("password"), home.path().join("vaulted.yml"));
    std::fs::write(
        home.path().join("ansible.cfg"),
        format!("[defaults]\nvault_password_file = {}\n", password.display()),
    )?;
    std::fs::write(password, "correct horse\n")?;
    std::fs::write(&vaulted, "all:\n  vars:\n    osier_domain: weave.local\n")?;
    let ansible = ansible_env::environment(Path::new(env!("CARGO_TARGET_TMPDIR"))).join("bin").display().to_string();
    let play = Play { cluster: Cluster::make(2, &[])?, ansible, home };
    let nodes = ["datalyse-1", "datalyse-master"];
    let all = |count: u32| nodes.map(|node| (node.to_owned(), count)).into();
    let expect = |playbook: &str, options: &str, expected: BTreeMap<String, u32>| {
        let changed = play.run(playbook, options)?;
        ensure!(changed == expected, "'{playbook} {options}' changed {changed:?}, not {expected:?}");
        anyhow::Ok(())
    };
    expect("site.yml", "--check --diff", all(1))?;
    ensure!(!play.is_set_up("datalyse-master")?, "a check set a node up");
    expect("bootstrap.yml", "", all(1))?;
    ensure!(!play.is_set_up("datalyse-master")?, "bootstrap.yml set a node up");
    expect("setup-cluster.yml", "", all(1))?;
    for node in nodes {
        ensure!(play.is_set_up(node)?, "{node} is not set up");
    }
    expect("site.yml", "", all(0))?;
    // What is encrypted is so for both, by Ansible's own setting.
    let vaulted = vaulted.display();
    let home = play.home.path().display();
    let vault = format!("env ANSIBLE_CONFIG={home}/ansible.cfg ANSIBLE_HOME={home} {}/ansible-vault", play.ansible);
    play.cluster.sh(&format!("{vault} encrypt {vaulted}"))?;
    let extra = r#"-e '{"osier_extra_vars": {"osier_domain": "weave.local"}}'"#;
    expect("site.yml", &format!("-i {vaulted} {extra}"), all(0))?;
    expect("site.yml", "--check --limit datalyse-1", [("datalyse-1".to_owned(), 0)].into())?;
    // The program itself finds nothing left to do.
    let inventory = play.cluster.inventory().to_str().context("an inventory's name")?;
    play.cluster.osier(&["site", "-i", inventory, "--check"])?;
    let info = play.cluster.sh("docker info 2>&1")?;
    ensure!(info.contains("Nodes: 2"), "the cluster has not two nodes:\n{info}");
    expect("destroy-cluster.yml", "", all(1))?;
    for node in nodes {
        ensure!(!play.is_set_up(node)?, "{node} is still set up");
    }
    expect("destroy-cluster.yml", "", all(0))
}
