//! Two real engines behind the manager, used with Docker's own command line, in every version that is installed.

use crate::{
    dockerd::Dockerd,
    world::{World, until},
};
use osier_engine::Client;
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{io::AsyncWriteExt, process::Command};

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The programs in the test's image, all of them busybox.
const PROGRAMS: [&str; 8] = ["sh", "cat", "echo", "sleep", "hostname", "true", "seq", "kill"];

/// Docker's command line, pointed at the manager.
struct Docker {
    program: PathBuf,
    host: String,
    home: PathBuf,
}

/// What a command printed and how it ended.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Docker {
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("DOCKER_HOST", &self.host).env("DOCKER_CONFIG", &self.home).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn finish(mut command: Command, input: &[u8]) -> Said {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that reads nothing may be gone already.
        let _ = stdin.write_all(input).await;
        drop(stdin);
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("no end of {command:?}")).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace('\r', "");
        Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    async fn say(&self, args: &[&str], input: &[u8]) -> Said {
        let mut command = self.command(&self.program);
        command.args(args);
        Self::finish(command, input).await
    }

    /// Runs a command that must succeed, and tells what it printed.
    async fn ok(&self, args: &[&str]) -> String {
        let said = self.say(args, b"").await;
        assert_eq!(said.code, 0, "docker {args:?}: {said:?}");
        said.out.trim_end().to_owned()
    }

    /// Runs a command on a terminal.
    async fn on_terminal(&self, args: &str) -> Said {
        let mut command = self.command(Path::new("script"));
        command.args(["-qec", &format!("{} {args}", self.program.display()), "/dev/null"]);
        Self::finish(command, b"").await
    }
}

/// The command lines that are here: Debian's, and one in the operator's own path.
fn programs() -> Vec<PathBuf> {
    let known = ["/usr/bin/docker", "/usr/local/bin/docker"].map(PathBuf::from);
    let found: Vec<PathBuf> = known.into_iter().filter(|p| p.exists()).collect();
    assert!(!found.is_empty(), "these tests need Docker's command line (apt-get install docker.io)");
    found
}

/// Packs an image of busybox.
async fn pack(folder: &Path) -> PathBuf {
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

async fn image_ids(engine: &Dockerd) -> Vec<String> {
    let list: Value = Client::tcp(engine.address).json(http::Method::GET, "/images/json", None).await.unwrap();
    list.as_array().unwrap().iter().map(|i| i["Id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dockers_command_line_sees_one_engine() {
    let (one, mut two) = (Dockerd::start("node-1").await, Dockerd::start("node-2").await);
    let world = World::start().await;
    world.cluster.set_members([one.target(), two.target()].into());
    world.healthy(2).await;
    let folder = tempfile::tempdir().unwrap();
    let tar = pack(folder.path()).await;
    let tar = tar.to_str().unwrap();
    for program in programs() {
        let docker = Docker { program, host: format!("tcp://{}", world.address), home: folder.path().join("home") };
        images(&docker, tar, [&one, &two], folder.path()).await;
        placing(&docker, [&one, &two]).await;
        interaction(&docker).await;
        lifecycle(&docker).await;
        docker.ok(&["rm", "-f", "first", "second"]).await;
        assert_eq!(docker.ok(&["ps", "-aq"]).await, "");
        docker.ok(&["rmi", "box:1"]).await;
    }
    let docker = Docker {
        program: programs().remove(0),
        host: format!("tcp://{}", world.address),
        home: folder.path().join("home"),
    };
    docker.ok(&["import", tar, "box:1"]).await;
    for name in ["first", "second"] {
        docker.ok(&["run", "-d", "--net=none", "--name", name, "box:1", "sleep", "1000"]).await;
    }
    two.kill();
    until("the loss is seen", async || docker.ok(&["info"]).await.contains("└ Status: Unhealthy")).await;
    let start = Instant::now();
    let all = docker.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).await;
    assert!(start.elapsed() < Duration::from_secs(1), "ps took {:?}", start.elapsed());
    assert!(all.contains("Host Down"), "{all}");
    for _ in 0..2 {
        docker.ok(&["run", "--rm", "--net=none", "box:1", "true"]).await;
    }
    docker.say(&["rm", "-f", "first", "second"], b"").await;
}

/// Images come in everywhere under one id, leave everywhere, and move by save and load.
async fn images(docker: &Docker, tar: &str, engines: [&Dockerd; 2], folder: &Path) {
    let id = docker.ok(&["import", tar, "box:1"]).await;
    for engine in engines {
        assert_eq!(image_ids(engine).await, std::slice::from_ref(&id), "{}", engine.name);
    }
    let saved = folder.join("saved.tar");
    let saved = saved.to_str().unwrap();
    docker.ok(&["save", "-o", saved, "box:1"]).await;
    docker.ok(&["rmi", "box:1"]).await;
    assert_eq!(docker.ok(&["images", "-q"]).await, "");
    assert!(image_ids(engines[0]).await.is_empty() && image_ids(engines[1]).await.is_empty());
    let loaded = docker.ok(&["load", "-i", saved]).await;
    assert!(loaded.contains("Loaded image: box:1"), "{loaded}");
    assert_eq!(docker.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).await, "box:1");
    docker.ok(&["tag", "box:1", "box:2"]).await;
    assert_eq!(docker.ok(&["image", "inspect", "-f", "{{.Id}}", "box:2"]).await, id);
    docker.ok(&["rmi", "box:2"]).await;
}

/// Two containers go to two nodes, and `info` and `ps` say so.
async fn placing(docker: &Docker, engines: [&Dockerd; 2]) {
    for name in ["first", "second"] {
        docker.ok(&["run", "-d", "--net=none", "--name", name, "box:1", "sleep", "1000"]).await;
    }
    let mut names: Vec<String> =
        docker.ok(&["ps", "--format", "{{.Names}}"]).await.lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["node-1/first", "node-2/second"]);
    let info = docker.ok(&["info"]).await;
    for part in ["Strategy: spread", "Nodes: 2", "└ Containers: 1 (1 Running, 0 Paused, 0 Stopped)"] {
        assert!(info.contains(part), "{part} in {info}");
    }
    for engine in engines {
        assert!(info.contains(&format!(" {}: {}", engine.name, engine.address)), "{info}");
    }
    let twice = docker.say(&["run", "-d", "--net=none", "--name", "first", "box:1", "true"], b"").await;
    assert!(twice.code == 125 && twice.err.contains("is already in use by container"), "{twice:?}");
    let node = docker.ok(&["inspect", "-f", "{{.Node.Name}}", "second"]).await;
    assert_eq!(node, "node-2");
}

/// Streams go both ways and end as they do with one engine.
async fn interaction(docker: &Docker) {
    let said = docker.on_terminal("run -ti --rm --net=none -h box.example box:1 sh -c 'hostname; exit 7'").await;
    assert!(said.code == 7 && said.out.contains("box.example\n"), "{said:?}");
    let said = docker.say(&["run", "-i", "--rm", "--net=none", "box:1", "cat"], b"through\n").await;
    assert_eq!((said.code, said.out.as_str()), (0, "through\n"), "{said:?}");
    let said = docker.on_terminal("exec -it node-1/first sh -c 'echo inside; exit 3'").await;
    assert!(said.code == 3 && said.out.contains("inside\n"), "{said:?}");
    let said = docker.say(&["exec", "-i", "second", "cat"], b"piped\n").await;
    assert_eq!((said.code, said.out.as_str()), (0, "piped\n"), "{said:?}");

    docker.ok(&["create", "-i", "--net=none", "--name", "echoes", "box:1", "cat"]).await;
    let said = docker.say(&["start", "-ai", "echoes"], b"attached\n").await;
    assert_eq!((said.code, said.out.as_str()), (0, "attached\n"), "{said:?}");
    docker.ok(&["rm", "-f", "echoes"]).await;

    let count = "for i in 1 2 3; do echo line $i; sleep 0.2; done";
    docker.ok(&["run", "-d", "--net=none", "--name", "counts", "box:1", "sh", "-c", count]).await;
    assert_eq!(docker.ok(&["logs", "-f", "counts"]).await, "line 1\nline 2\nline 3");
    docker.ok(&["rm", "-f", "counts"]).await;
}

/// What happens to a container is waited for, told as events, and shown at once.
async fn lifecycle(docker: &Docker) {
    docker.ok(&["run", "-d", "--net=none", "--name", "dies", "box:1", "sleep", "1000"]).await;
    let args = ["wait", "dies"];
    let (waited, _) = tokio::join!(docker.ok(&args), docker.ok(&["kill", "dies"]));
    assert_eq!(waited, "137");
    let status = docker.ok(&["ps", "-a", "--filter", "name=dies", "--format", "{{.Status}}"]).await;
    assert!(status.starts_with("Exited (137)"), "{status}");
    docker.ok(&["rename", "dies", "died"]).await;
    docker.ok(&["rm", "died"]).await;
    let format = "{{.Action}} {{index .Actor.Attributes \"node.name\"}}";
    // Times are whole seconds on this command line; what just happened lies before the end of the next one.
    let soon = (time::OffsetDateTime::now_utc().unix_timestamp() + 1).to_string();
    let events = ["events", "--since", "60m", "--until", &soon, "--filter", "container=dies", "--format", format];
    let told = docker.ok(&events).await;
    let actions: Vec<&str> = told.lines().filter_map(|l| l.split(' ').next()).collect();
    for action in ["create", "start", "kill", "die"] {
        assert!(actions.contains(&action), "{action} in {told}");
    }
    assert!(told.lines().all(|l| l.ends_with("node-1") || l.ends_with("node-2")), "{told}");
    let code = docker.say(&["run", "--rm", "--net=none", "box:1", "sh", "-c", "exit 5"], b"").await.code;
    assert_eq!((code, docker.ok(&["ps", "-aq"]).await.lines().count()), (5, 2));
}
