//! Docker's command line, pointed at a manager.

use crate::world::World;
use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{io::AsyncWriteExt, process::Command};

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The programs in the test's image, all of them busybox.
const PROGRAMS: [&str; 8] = ["sh", "cat", "echo", "sleep", "hostname", "true", "seq", "kill"];

/// Docker's command line, pointed at the manager.
#[derive(Clone)]
pub(crate) struct Docker {
    program: PathBuf,
    host: String,
    pub(crate) home: PathBuf,
    environment: Vec<(&'static str, String)>,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Docker {
    /// This program, pointed at a manager, with what it remembers in `folder`. Its build plugin is the system's, or the
    /// one that `OSIER_BUILDX` names.
    pub(crate) fn new(program: PathBuf, world: &World, folder: &Path) -> Self {
        let (host, home) = (format!("tcp://{}", world.address), folder.join("home"));
        if let Some(plugin) = std::env::var_os("OSIER_BUILDX") {
            std::fs::create_dir_all(home.join("cli-plugins")).unwrap();
            // Command lines of one test share the folder.
            let _ = std::os::unix::fs::symlink(plugin, home.join("cli-plugins/docker-buildx"));
        }
        Self { program, host, home, environment: Vec::new() }
    }

    /// The same with one more variable in its environment.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("DOCKER_HOST", &self.host).env("DOCKER_CONFIG", &self.home).kill_on_drop(true);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn finish(command: Command, input: &[u8]) -> Said {
        let output = Self::run(command, input).await;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace('\r', "");
        Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    async fn run(mut command: Command, input: &[u8]) -> Output {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that reads nothing may be gone already.
        let _ = stdin.write_all(input).await;
        drop(stdin);
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        output.unwrap_or_else(|_| panic!("no end of {command:?}")).unwrap()
    }

    pub(crate) async fn say(&self, args: &[&str], input: &[u8]) -> Said {
        let mut command = self.command(&self.program);
        command.args(args);
        Self::finish(command, input).await
    }

    /// Runs a command that must succeed, and tells what it printed.
    pub(crate) async fn ok(&self, args: &[&str]) -> String {
        let said = self.say(args, b"").await;
        assert_eq!(said.code, 0, "docker {args:?}: {said:?}");
        said.out.trim_end().to_owned()
    }

    /// Runs a command that must succeed, and gives what it wrote.
    pub(crate) async fn bytes(&self, args: &[&str]) -> Vec<u8> {
        let mut command = self.command(&self.program);
        command.args(args);
        let output = Self::run(command, b"").await;
        assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Whether it has BuildKit in itself or in a plugin.
    pub(crate) async fn can_build_with_buildkit(&self) -> bool {
        let said = self.say(&["--version"], b"").await;
        let major = said.out.split([' ', '.']).find_map(|word| word.parse::<u32>().ok());
        major.is_some_and(|major| major < 23) || self.say(&["buildx", "version"], b"").await.code == 0
    }

    /// Runs a command on a terminal.
    pub(crate) async fn on_terminal(&self, args: &str) -> Said {
        let mut command = self.command(Path::new("script"));
        command.args(["-qec", &format!("{} {args}", self.program.display()), "/dev/null"]);
        Self::finish(command, b"").await
    }
}

/// The command lines that are here: Debian's, and one in the operator's own path.
pub(crate) fn programs() -> Vec<PathBuf> {
    let known = ["/usr/bin/docker", "/usr/local/bin/docker"].map(PathBuf::from);
    let found: Vec<PathBuf> = known.into_iter().filter(|p| p.exists()).collect();
    assert!(!found.is_empty(), "these tests need Docker's command line (apt-get install docker.io)");
    found
}

/// Packs an image of busybox.
pub(crate) async fn pack(folder: &Path) -> PathBuf {
    let (root, tar) = (folder.join("root"), folder.join("image.tar"));
    std::fs::create_dir_all(root.join("bin")).unwrap();
    let busybox = "/bin/busybox";
    std::fs::copy(busybox, root.join("bin/busybox"))
        .expect("these tests need busybox (apt-get install busybox-static)");
    for program in PROGRAMS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(program)).unwrap();
    }
    let packed = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status().await.unwrap();
    assert!(packed.success());
    tar
}
