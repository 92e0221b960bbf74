//! Making one host what a document says: the program goes there, runs `converge`, and its events come back.
//!
//! Must not know what the document holds. A program that is not there yet is put beside its place under another name,
//! and is gone again in the end, so that a check leaves nothing behind. A bundle's packages go there only where they are to be
//! installed.

use crate::{
    bundle::Offline,
    documents::PROGRAM,
    recap::Outcome,
    remote::{self, Remote},
};
use anyhow::{Context, anyhow};
use osier_converge::{Desired, Digest, Event, PlannedStep, Target};
use osier_ssh::{Command, Stream};
use osier_ui::{ExitKind, Failure, Progress, Ui};
use std::path::{Path, PathBuf};

/// Where the program lies before it is installed: its digest follows.
const STAGED: &str = "/usr/local/bin/.osier-";

/// The program to put on hosts.
pub(crate) struct Program {
    bytes: Vec<u8>,
    /// The digest of its file.
    pub(crate) sha256: Digest,
    /// The machine it is for, as `uname -m` prints it.
    pub(crate) machine: String,
}

/// What a host gets besides its document.
pub(crate) struct Supply<'a> {
    /// The program.
    pub(crate) program: &'a Program,
    /// Whether the host has this very program already.
    pub(crate) installed: bool,
    /// A bundle, and the host's system.
    pub(crate) bundle: Option<(&'a Offline, Target)>,
}

/// How documents are delivered.
pub(crate) struct Delivery<'a> {
    pub(crate) check: bool,
    pub(crate) diff: bool,
    pub(crate) ui: &'a Ui,
}

impl Program {
    /// Reads the program at `path`, else the running one.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self, Failure> {
        let path = path.map_or_else(|| PathBuf::from("/proc/self/exe"), Path::to_owned);
        let bytes = std::fs::read(&path).with_context(|| format!("read the program '{}'", path.display()));
        let bytes = bytes.map_err(|e| Failure::new(ExitKind::Usage, e))?;
        let machine = elf_machine(&bytes).ok_or_else(|| {
            Failure::usage(format!("'{}' is not a program for a machine we know (ELF, 64 bits)", path.display()))
        })?;
        Ok(Self { sha256: Digest::of(&bytes), machine: machine.to_owned(), bytes })
    }
}

/// Which machine a program is for: `e_machine` of its ELF header (System V ABI, "ELF header").
fn elf_machine(bytes: &[u8]) -> Option<&'static str> {
    let is_elf64 = bytes.starts_with(&[0x7f, b'E', b'L', b'F', 2]);
    match (is_elf64, bytes.get(18..20)?) {
        (true, [62, 0]) => Some("x86_64"),
        (true, [183, 0]) => Some("aarch64"),
        (true, [243, 0]) => Some("riscv64"),
        _ => None,
    }
}

/// Delivers one document.
pub(crate) async fn deliver(
    remote: &Remote,
    desired: &Desired,
    supply: &Supply<'_>,
    delivery: &Delivery<'_>,
    progress: &Progress,
) -> Result<Outcome, Failure> {
    let Supply { program, installed, bundle } = supply;
    let staged = format!("{STAGED}{}", &program.sha256.to_string()[..12]);
    if !installed {
        progress.doing(&remote.name, "copy the program");
        remote.ssh.push(&program.bytes, &staged, 0o755).await.map_err(remote::failure)?;
    }
    let path = if *installed { PROGRAM } else { &staged };
    let brought = match bundle {
        Some(bundle) if !delivery.check => bring(remote, desired, path, bundle, progress).await,
        _ => Ok(()),
    };
    let outcome = match brought {
        Ok(()) => converge(remote, desired, path, delivery, progress).await,
        Err(failure) => Err(failure),
    };
    if !installed {
        // All that earlier runs left when they were cut off goes as well.
        let tidy = Command::shell(&format!("rm -f -- {STAGED}*"), [""; 0]).as_root();
        let removed = remote.ssh.check(&tidy).await;
        // A failure of the work itself matters more than one of tidying up.
        return outcome.and_then(|o| removed.map(|_| o).map_err(remote::failure));
    }
    outcome
}

/// Brings packages where the host's plan needs them: most runs install none.
async fn bring(
    remote: &Remote,
    desired: &Desired,
    path: &str,
    (bundle, target): &(&Offline, Target),
    progress: &Progress,
) -> Result<(), Failure> {
    let document = serde_json::to_vec(desired).context("encode the desired state")?;
    let command = Command::new([path, "converge", "--check"]).as_root().stdin(&document);
    let mut needs = false;
    // What goes wrong here goes wrong again when the host converges, and is told then.
    let on_line = |_, line: &str| {
        if let Some(Event::Plan { bundle, .. }) = Event::from_line(line) {
            needs = bundle;
        }
    };
    remote.ssh.stream(&command, on_line).await.map_err(remote::failure)?;
    if !needs {
        return Ok(());
    }
    progress.doing(&remote.name, "copy the packages");
    let wanted = desired.engine.as_ref().map(|engine| engine.packages.as_slice()).unwrap_or_default();
    bundle.bring(remote, target, wanted).await
}

async fn converge(
    remote: &Remote,
    desired: &Desired,
    path: &str,
    delivery: &Delivery<'_>,
    progress: &Progress,
) -> Result<Outcome, Failure> {
    let document = serde_json::to_vec(desired).context("encode the desired state")?;
    let argv = [path, "converge"].into_iter().chain(delivery.check.then_some("--check"));
    let command = Command::new(argv).as_root().stdin(&document);
    let mut heard = Heard::default();
    let on_line = |stream: Stream, line: &str| match (stream, Event::from_line(line)) {
        (Stream::Out, Some(event)) => {
            if let Event::Plan { warnings, .. } = &event {
                warnings.iter().for_each(|w| delivery.ui.warn(format_args!("{}: {w}", remote.name)));
            }
            match &event {
                Event::Plan { steps, .. } if delivery.check || delivery.diff => show(delivery, &remote.name, steps),
                Event::Started { step } => progress.doing(&remote.name, step),
                _ => {}
            }
            heard.event(event);
        }
        _ => heard.noise(line),
    };
    let code = remote.ssh.stream(&command, on_line).await.map_err(remote::failure)?;
    heard.outcome(&remote.name, code, delivery.check)
}

fn show(delivery: &Delivery<'_>, host: &str, steps: &[PlannedStep]) {
    let ui = delivery.ui;
    if ui.is_json() {
        return;
    }
    for step in steps {
        ui.line(format_args!("{host}: {}", step.text));
        let lines = step.diff.iter().filter(|_| delivery.diff).flat_map(|d| d.lines());
        lines.for_each(|line| ui.line(format_args!("    {line}")));
    }
}

/// What a host said while it converged.
#[derive(Debug, Default)]
struct Heard {
    planned: Option<Vec<String>>,
    failures: Vec<(String, Vec<String>)>,
    changed: Option<usize>,
    noise: Vec<String>,
}

impl Heard {
    fn event(&mut self, event: Event) {
        match event {
            Event::Plan { steps, .. } => self.planned = Some(steps.into_iter().map(|s| s.text).collect()),
            Event::Started { .. } | Event::Changed { .. } => {}
            Event::Failed { step, causes } => self.failures.push((step, causes)),
            Event::Done { changed, .. } => self.changed = Some(changed),
        }
    }

    /// Keeps the last lines that are no events: they say why the program itself failed.
    fn noise(&mut self, line: &str) {
        if !line.trim().is_empty() {
            self.noise.push(line.trim().to_owned());
            let extra = self.noise.len().saturating_sub(5);
            self.noise.drain(..extra);
        }
    }

    fn outcome(self, host: &str, code: i32, check: bool) -> Result<Outcome, Failure> {
        if let Some(((step, causes), others)) = self.failures.split_first() {
            let root = others.iter().map(|(step, causes)| anyhow!("then {step}: {}", causes.join(": ")));
            let mut error = root.reduce(|a, b| anyhow!("{a}; {b}"));
            for cause in causes.iter().rev() {
                error = Some(match error {
                    Some(e) => e.context(cause.clone()),
                    None => anyhow!("{cause}"),
                });
            }
            let doing = format!("{step} on '{host}'");
            let error = error.map_or_else(|| anyhow!("{doing}"), |e| e.context(doing.clone()));
            return Err(Failure::new(ExitKind::SomeHostsFailed, error));
        }
        match (self.planned, self.changed) {
            (Some(steps), _) if check && steps.is_empty() => Ok(Outcome::Unchanged),
            (Some(steps), _) if check => Ok(Outcome::Planned(steps)),
            (_, Some(0)) => Ok(Outcome::Unchanged),
            (_, Some(n)) => Ok(Outcome::Changed(n)),
            _ => {
                let said = if self.noise.is_empty() { "it said nothing".to_owned() } else { self.noise.join("; ") };
                let doing = format!("run 'osier converge' on '{host}' (it ended with code {code})");
                Err(Failure::new(ExitKind::SomeHostsFailed, anyhow!(said).context(doing)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[&str]) -> Heard {
        let mut heard = Heard::default();
        for line in lines {
            match Event::from_line(line) {
                Some(event) => heard.event(event),
                None => heard.noise(line),
            }
        }
        heard
    }

    #[test]
    fn events_become_the_hosts_outcome() {
        let plan = r#"{"event":"plan","steps":[{"text":"write /a"}]}"#;
        let done = r#"{"event":"done","changed":1,"failed":0,"skipped":0}"#;
        assert!(matches!(heard(&[plan, done]).outcome("h", 0, false), Ok(Outcome::Changed(1))));
        assert!(matches!(heard(&[plan]).outcome("h", 5, true), Ok(Outcome::Planned(steps)) if steps == ["write /a"]));
        let nothing = r#"{"event":"plan","steps":[]}"#;
        assert!(matches!(heard(&[nothing]).outcome("h", 0, true), Ok(Outcome::Unchanged)));
    }

    #[test]
    fn a_failed_step_keeps_its_causes_and_a_program_that_died_its_words() {
        let failed = r#"{"event":"failed","step":"start a.service","causes":["run it","no such file"]}"#;
        let failure = heard(&[failed, r#"{"event":"done","changed":0,"failed":1,"skipped":2}"#]).outcome("h", 1, false);
        let failure = failure.unwrap_err();
        assert_eq!(failure.message(), "start a.service on 'h'");
        assert_eq!((failure.causes(), failure.code()), (vec!["run it".to_owned(), "no such file".into()], 3));
        let died = heard(&["error: lock '/run/lock/x'", ""]).outcome("h", 1, false).unwrap_err();
        assert_eq!(died.causes(), ["error: lock '/run/lock/x'"]);
    }

    #[test]
    fn the_running_program_is_for_this_machine() {
        use std::io::Read;
        let mut head = [0; 64];
        std::fs::File::open("/proc/self/exe").unwrap().read_exact(&mut head).unwrap();
        assert_eq!(elf_machine(&head), Some(std::env::consts::ARCH));
        assert_eq!(elf_machine(&head[..18]), None);
        assert_eq!(Program::read(Some(Path::new("/etc/os-release"))).err().unwrap().code(), 2);
    }
}
