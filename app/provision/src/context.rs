//! How the Docker command line reaches a cluster: a context in its own store, and the lines of `osier env`.
//!
//! Must not know how the cluster was made. The layout is the Docker CLI's: `contexts/meta/<id>/meta.json` and
//! `contexts/tls/<id>/docker/{ca,cert,key}.pem` in its folder, where `<id>` is the SHA-256 of the context's name. A
//! context is never selected automatically, and one that somebody else made is left alone.

use crate::{
    args::EnvArgs,
    home::{Home, Record},
};
use anyhow::Context;
use osier_converge::Digest;
use osier_ssh::quote;
use osier_ui::{Failure, Ui};
use serde_json::{Value, json};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// One context: its name, what it says of itself, by which it is known to be ours, and where it leads.
#[derive(Debug, Clone)]
pub struct DockerContext {
    name: String,
    description: String,
    host: Option<SocketAddr>,
}

/// The Docker CLI's folder.
pub fn docker_folder() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("DOCKER_CONFIG").or_else(|| var("HOME").map(|h| h.join(".docker")))
}

/// What became of a context.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// It is there now.
    Changed,
    /// It was there already.
    Same,
    /// One of this name is there that is not ours.
    Foreign,
}

impl DockerContext {
    /// The one that leads to the cluster's manager. `default` is taken by the Docker CLI itself, and it wants two characters.
    pub(crate) fn of(record: &Record) -> Self {
        let name = match record.name.as_str() {
            "default" => "osier".to_owned(),
            name if name.len() < 2 => format!("osier-{name}"),
            name => name.to_owned(),
        };
        Self { name, description: format!("Osier cluster '{}'", record.name), host: record.manager() }
    }

    /// The one that leads to the same manager through a tunnel, whose end on this machine is at `port`. Managers have
    /// certificates for that address, too.
    pub fn through_tunnel(record: &Record, port: u16) -> Self {
        let direct = Self::of(record);
        Self {
            name: format!("{}-tunnel", direct.name),
            description: format!("{} through a tunnel", direct.description),
            host: Some((Ipv4Addr::LOCALHOST, port).into()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes it, with the operator's certificate out of the cluster's folder.
    pub fn write(&self, docker: &Path, cluster: &Path) -> Result<Written, Failure> {
        let Some(host) = self.host else { return Ok(Written::Same) };
        let (meta_path, tls) = self.places(docker);
        let meta = json!({
            "Name": self.name,
            "Metadata": { "Description": self.description },
            "Endpoints": { "docker": { "Host": format!("tcp://{host}"), "SkipTLSVerify": false } },
        });
        let old: Option<Value> = osier_store::read_json(&meta_path).map_err(anyhow::Error::new)?;
        if old.as_ref().is_some_and(|o| !self.is(o)) {
            return Ok(Written::Foreign);
        }
        let mut changed = old.as_ref() != Some(&meta);
        for (file, mode) in [("ca.pem", 0o600), ("cert.pem", 0o600), ("key.pem", 0o600)] {
            let (from, to) = (cluster.join(file), tls.join(file));
            let text = fs::read(&from).with_context(|| format!("read '{}'", from.display()))?;
            if osier_store::read(&to).map_err(anyhow::Error::new)?.as_ref() != Some(&text) {
                osier_store::write(&to, &text, mode).map_err(anyhow::Error::new)?;
                changed = true;
            }
        }
        if old.as_ref() != Some(&meta) {
            osier_store::write_json(&meta_path, &meta, osier_store::PUBLIC).map_err(anyhow::Error::new)?;
        }
        Ok(if changed { Written::Changed } else { Written::Same })
    }

    /// Takes it away, if it is ours.
    pub fn remove(&self, docker: &Path) -> Result<(), Failure> {
        let (meta_path, tls) = self.places(docker);
        let old: Option<Value> = osier_store::read_json(&meta_path).map_err(anyhow::Error::new)?;
        if !old.is_some_and(|o| self.is(&o)) {
            return Ok(());
        }
        for folder in [meta_path.parent(), tls.parent()].into_iter().flatten() {
            match fs::remove_dir_all(folder) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(anyhow::Error::new(e).context(format!("remove '{}'", folder.display())).into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn is(&self, meta: &Value) -> bool {
        meta.pointer("/Metadata/Description").and_then(Value::as_str) == Some(&self.description)
    }

    fn places(&self, docker: &Path) -> (PathBuf, PathBuf) {
        let id = Digest::of(self.name.as_bytes()).to_string();
        let contexts = docker.join("contexts");
        (contexts.join("meta").join(&id).join("meta.json"), contexts.join("tls").join(&id).join("docker"))
    }
}

/// Prints shell lines that point the Docker command line at a cluster.
pub async fn run_env(args: EnvArgs, ui: &Ui) -> Result<(), Failure> {
    const NAMES: [&str; 3] = ["DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"];
    if args.unset {
        NAMES.iter().for_each(|name| ui.line(format_args!("unset {name}")));
        return Ok(());
    }
    let cluster = Home::from_env()?.choose(args.cluster.as_deref())?;
    let Some(manager) = cluster.record.manager() else {
        let failure = Failure::usage(format!("cluster '{}' has no manager yet", cluster.record.name));
        return Err(failure.hint("'osier setup-cluster -i inventory' makes one"));
    };
    let values = [format!("tcp://{manager}"), "1".to_owned(), cluster.folder.display().to_string()];
    let pairs = NAMES.iter().zip(&values);
    if ui.is_json() {
        ui.json(&pairs.collect::<std::collections::BTreeMap<_, _>>());
    } else {
        pairs.for_each(|(name, value)| ui.line(format_args!("export {name}={}", quote(value))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::tests::record;

    #[test]
    fn a_context_is_written_once_and_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let (docker, folder) = (dir.path().join("docker"), dir.path().join("cluster"));
        for file in ["ca.pem", "cert.pem", "key.pem"] {
            osier_store::write(&folder.join(file), file.as_bytes(), 0o600).unwrap();
        }
        let context = DockerContext::of(&record("lab"));
        assert_eq!(context.write(&docker, &folder).unwrap(), Written::Changed);
        assert_eq!(context.write(&docker, &folder).unwrap(), Written::Same);
        let id = "a51146d38077ff992eba84cf1d5e9b249073503eb74868699016153b031a38f7";
        let (meta, tls) = context.places(&docker);
        assert_eq!(meta.parent().unwrap().file_name().unwrap(), id);
        let seen: Value = osier_store::read_json(&meta).unwrap().unwrap();
        assert_eq!(seen["Endpoints"]["docker"]["Host"], "tcp://192.0.2.1:3376");
        assert_eq!(fs::read(tls.join("key.pem")).unwrap(), b"key.pem");
        let tunnel = DockerContext::through_tunnel(&record("lab"), 3377);
        assert_eq!((tunnel.write(&docker, &folder).unwrap(), tunnel.name()), (Written::Changed, "lab-tunnel"));
        let seen: Value = osier_store::read_json(&tunnel.places(&docker).0).unwrap().unwrap();
        assert_eq!(seen["Endpoints"]["docker"], json!({ "Host": "tcp://127.0.0.1:3377", "SkipTLSVerify": false }));
        tunnel.remove(&docker).unwrap();
        assert!(meta.exists() && !tunnel.places(&docker).0.exists());
        context.remove(&docker).unwrap();
        assert!(!meta.parent().unwrap().exists() && !tls.exists());
        context.remove(&docker).unwrap();
    }

    #[test]
    fn a_context_of_somebody_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let context = DockerContext::of(&record("lab"));
        let (meta, _) = context.places(dir.path());
        osier_store::write_json(&meta, &json!({"Name": "lab", "Metadata": {}}), 0o644).unwrap();
        assert_eq!(context.write(dir.path(), dir.path()).unwrap(), Written::Foreign);
        context.remove(dir.path()).unwrap();
        assert!(meta.exists());
    }

    #[test]
    fn names_that_docker_keeps_to_itself_are_avoided() {
        let names = ["default", "c", "lab"].map(|n| DockerContext::of(&record(n)).name);
        assert_eq!(names, ["osier", "osier-c", "lab"]);
    }
}
