//! Docker's command line, the newest at hand.

use crate::{
    failure::{Failure, holds, same},
    program::{Program, find},
    scenario::scenarios,
    target::Target,
};
use serde_json::Value;
use std::path::Path;

scenarios! { Cli:
    "docker version, info" => version_and_info,
    "docker run" => run_prints_and_ends_with_the_programs_code,
    "docker run -it" => run_on_a_terminal,
    "docker run -i" => run_reads_its_input,
    "docker run --rm" => run_leaves_nothing_behind,
    "docker ps" => ps_filters_and_formats,
    "docker exec" => exec_with_and_without_a_terminal,
    "docker logs" => logs_follow,
    "docker attach" => attach_to_a_running_container,
    "docker cp" => copy_in_and_out,
    "docker create, start, wait, rm" => a_life_in_steps,
    "docker inspect" => inspect_by_name_id_and_type,
    "docker save, load, tag, rmi" => images_move_as_archives,
    "docker import, export, commit" => images_of_containers,
    "docker build (classic)" => build_by_the_classic_builder,
    "docker build (BuildKit)" => build_by_buildkit,
    "docker network" => networks,
    "docker volume" => volumes,
    "docker events" => events_of_the_past,
    "docker stats, top, diff, port" => watching,
    "docker update, rename, pause" => changing,
    "docker system df" => disk_usage,
    "docker run nothing" => errors_and_their_exit_codes,
}

fn docker(t: &Target) -> Result<Program, Failure> {
    let newest = Path::new("/usr/local/bin/docker");
    if newest.is_file() { Program::new(t, newest.to_path_buf()) } else { Program::named(t, "docker") }
}

/// Starts a container that stays, and gives its name.
async fn stays(t: &Target, docker: &Program, word: &str) -> Result<String, Failure> {
    let name = t.name(word);
    t.remove_container_later(&name);
    docker.ok(&["run", "-d", "--network", "none", "--name", &name, t.image(), "sleep", "1000"]).await?;
    Ok(name)
}

async fn version_and_info(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    let version = docker.ok(&["version", "--format", "{{.Server.APIVersion}} {{.Server.Os}}"]).await?;
    holds("the server's version", version.starts_with("1.") && version.ends_with("linux"), version)?;
    let info = docker.ok(&["info"]).await?;
    for line in ["Containers:", "Server Version:", "Swarm: inactive", "CPUs:", "Total Memory:"] {
        holds(format_args!("info has {line}"), info.contains(line), &info)?;
    }
    let json: Result<Value, _> = serde_json::from_str(&docker.ok(&["info", "--format", "{{json .}}"]).await?);
    holds("info is JSON", json.as_ref().is_ok_and(|i| i["NCPU"].as_i64() > Some(0)), json)
}

async fn run_prints_and_ends_with_the_programs_code(t: &Target) -> Result<(), Failure> {
    let name = t.name("run");
    t.remove_container_later(&name);
    let line = "echo out; echo err >&2; exit 7";
    let args = ["run", "--network", "none", "--name", &name, t.image(), "sh", "-c", line];
    let said = docker(t)?.say(&args, b"").await?;
    same("the code and both streams", (said.code, said.out.as_str(), said.err.as_str()), (7, "out\n", "err\n"))
}

async fn run_on_a_terminal(t: &Target) -> Result<(), Failure> {
    let name = t.name("run");
    t.remove_container_later(&name);
    let args = [
        "run",
        "-it",
        "--rm",
        "--network",
        "none",
        "--name",
        &name,
        "-h",
        "box",
        t.image(),
        "sh",
        "-c",
        "hostname; exit 5",
    ];
    let said = docker(t)?.on_terminal(&args).await?;
    holds("the code and what it printed", said.code == 5 && said.out.contains("box\n"), said)
}

async fn run_reads_its_input(t: &Target) -> Result<(), Failure> {
    let name = t.name("run");
    t.remove_container_later(&name);
    let large = "all of this comes back\n".repeat(20_000);
    let args = ["run", "-i", "--rm", "--network", "none", "--name", &name, t.image(), "cat"];
    let said = docker(t)?.say(&args, large.as_bytes()).await?;
    same("the code", said.code, 0)?;
    holds("what came back", said.out == large, said.out.len())
}

async fn run_leaves_nothing_behind(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    for _ in 0..3 {
        let name = t.name("run");
        t.remove_container_later(&name);
        docker.ok(&["run", "--rm", "--network", "none", "--name", &name, t.image(), "true"]).await?;
    }
    same("ps", docker.ok(&["ps", "-aq", "--filter", &format!("name={}", t.name("run"))]).await?, "")
}

async fn ps_filters_and_formats(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    let name = stays(t, &docker, "one").await?;
    let filter = format!("name={name}");
    let said =
        docker.ok(&["ps", "--filter", &filter, "--format", "{{.Names}}|{{.Image}}|{{.Command}}|{{.State}}"]).await?;
    let wanted = format!("{name}|{}|\"sleep 1000\"|running", t.image());
    holds("the row", said.ends_with(&wanted), said)?;
    let table = docker.ok(&["ps", "-a", "--no-trunc", "--filter", &filter]).await?;
    same("the lines of the table", table.lines().count(), 2)?;
    let none = docker.ok(&["ps", "-q", "--filter", &filter, "--filter", "status=exited"]).await?;
    same("exited ones", none, "")
}

async fn exec_with_and_without_a_terminal(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    let name = stays(t, &docker, "one").await?;
    let said = docker.say(&["exec", "-i", "-e", "A=b", &name, "sh", "-c", "cat; echo $A; exit 3"], b"input\n").await?;
    same("the code and the output", (said.code, said.out.as_str()), (3, "input\nb\n"))?;
    let said = docker.on_terminal(&["exec", "-it", &name, "sh", "-c", "echo inside; exit 4"]).await?;
    holds("on a terminal", said.code == 4 && said.out.contains("inside\n"), said)?;
    docker.ok(&["exec", "-d", &name, "touch", "/tmp/detached"]).await.map(drop)
}

async fn logs_follow(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    let name = t.name("one");
    t.remove_container_later(&name);
    let line = "for i in 1 2 3; do echo line $i; sleep 0.2; done";
    docker.ok(&["run", "-d", "--network", "none", "--name", &name, t.image(), "sh", "-c", line]).await?;
    same("followed", docker.ok(&["logs", "-f", &name]).await?, "line 1\nline 2\nline 3")?;
    same("the tail", docker.ok(&["logs", "--tail", "1", &name]).await?, "line 3")
}

async fn attach_to_a_running_container(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    let name = t.name("one");
    t.remove_container_later(&name);
    docker.ok(&["create", "-i", "--network", "none", "--name", &name, t.image(), "cat"]).await?;
    let said = docker.say(&["start", "-ai", &name], b"attached\n").await?;
    same("start -ai", (said.code, said.out.as_str()), (0, "attached\n"))?;
    docker.ok(&["start", &name]).await?;
    let said = docker.say(&["attach", &name], b"again\n").await?;
    same("attach", (said.code, said.out.as_str()), (0, "again\n"))
}

async fn copy_in_and_out(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    let name = stays(t, &docker, "one").await?;
    let file = docker.write("in.txt", "copied\n")?;
    docker.ok(&["cp", &file, &format!("{name}:/tmp/there.txt")]).await?;
    same("inside", docker.ok(&["exec", &name, "cat", "/tmp/there.txt"]).await?, "copied")?;
    let out = docker.home().join("out.txt").display().to_string();
    docker.ok(&["cp", &format!("{name}:/tmp/there.txt"), &out]).await?;
    let back = std::fs::read_to_string(&out).map_err(|e| Failure::broken(format_args!("read '{out}'"), e))?;
    same("outside", back, "copied\n")?;
    let said = docker.say(&["cp", &format!("{name}:/nothing"), &out], b"").await?;
    holds("a file that is not there", said.code == 1, said)
}

async fn a_life_in_steps(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    let name = t.name("one");
    t.remove_container_later(&name);
    let id = docker.ok(&["create", "--network", "none", "--name", &name, t.image(), "sh", "-c", "exit 9"]).await?;
    same("the id's length", id.len(), 64)?;
    same("start", docker.ok(&["start", &name]).await?, name.as_str())?;
    same("wait", docker.ok(&["wait", &name]).await?, "9")?;
    same("restart", docker.ok(&["restart", "-t", "0", &name]).await?, name.as_str())?;
    docker.ok(&["wait", &name]).await?;
    same("rm", docker.ok(&["rm", &name]).await?, name.as_str())?;
    same("rm again", docker.say(&["rm", &name], b"").await?.code, 1)
}

async fn inspect_by_name_id_and_type(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    let name = stays(t, &docker, "one").await?;
    let id = docker.ok(&["inspect", "-f", "{{.Id}}", &name]).await?;
    same("by a short id", docker.ok(&["inspect", "-f", "{{.Name}}", &id[..12]]).await?, format!("/{name}"))?;
    docker.ok(&["inspect", "--type", "container", &name]).await?;
    docker.ok(&["inspect", "--size", &name]).await?;
    let image = docker.ok(&["inspect", "--type", "image", "-f", "{{index .RepoTags 0}}", t.image()]).await?;
    holds("the image", !image.is_empty(), image)?;
    same("of nothing", docker.say(&["inspect", &t.name("nothing")], b"").await?.code, 1)
}

async fn images_move_as_archives(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    let name = format!("{}:1", t.name("image"));
    t.later(format!("/images/{name}?force=1"));
    docker.ok(&["tag", t.image(), &name]).await?;
    let file = docker.home().join("saved.tar").display().to_string();
    docker.ok(&["save", "-o", &file, &name]).await?;
    docker.ok(&["rmi", &name]).await?;
    let loaded = docker.ok(&["load", "-i", &file]).await?;
    holds("load says what it loaded", loaded.contains(&format!("Loaded image: {name}")), loaded)?;
    let listed = docker.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}", &t.name("image")]).await?;
    same("images", listed, name.as_str())
}

async fn images_of_containers(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    let name = stays(t, &docker, "one").await?;
    docker.ok(&["exec", &name, "sh", "-c", "echo kept > /own"]).await?;
    let committed = format!("{}:c", t.name("image"));
    let imported = format!("{}:i", t.name("image"));
    t.later(format!("/images/{committed}?force=1"));
    t.later(format!("/images/{imported}?force=1"));
    docker.ok(&["commit", "-m", "why", &name, &committed]).await?;
    let file = docker.home().join("exported.tar").display().to_string();
    docker.ok(&["export", "-o", &file, &name]).await?;
    docker.ok(&["import", "-c", "ENV A=b", &file, &imported]).await?;
    for image in [&committed, &imported] {
        let said = docker.ok(&["run", "--rm", "--network", "none", image, "cat", "/own"]).await?;
        same(format_args!("what {image} has"), said, "kept")?;
    }
    Ok(())
}

async fn build(t: &Target, docker: &Program) -> Result<(), Failure> {
    let image = format!("{}:1", t.name("built"));
    t.later(format!("/images/{image}?force=1"));
    docker.write("context/file", "from the context\n")?;
    docker.write("context/Dockerfile", &format!("FROM {}\nCOPY file /file\nRUN cat /file > /copied\n", t.image()))?;
    let context = docker.home().join("context").display().to_string();
    docker.ok(&["build", "--network", "none", "-t", &image, &context]).await?;
    let said = docker.ok(&["run", "--rm", "--network", "none", &image, "cat", "/copied"]).await?;
    same("what was built", said, "from the context")
}

async fn build_by_the_classic_builder(t: &Target) -> Result<(), Failure> {
    let mut docker = docker(t)?;
    docker.set("DOCKER_BUILDKIT", "0");
    build(t, &docker).await
}

/// Newer command lines leave this to a plugin; Debian's own carries BuildKit's client in it.
async fn build_by_buildkit(t: &Target) -> Result<(), Failure> {
    let path = find("docker").into_iter().chain(["/usr/bin/docker".into()]);
    for path in path {
        let mut docker = Program::new(t, path)?;
        docker.set("DOCKER_BUILDKIT", "1");
        docker.set("BUILDKIT_PROGRESS", "plain");
        let help = docker.say(&["build", "--help"], b"").await?;
        if help.code == 0 && help.out.contains("--secret") && !help.err.contains("buildx component is missing") {
            return build(t, &docker).await;
        }
    }
    Err(Failure::Absent("command line with BuildKit".to_owned()))
}

async fn networks(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    let (network, name) = (t.name("lan"), stays(t, &docker, "one").await?);
    let other = t.name("other");
    t.later(format!("/networks/{network}"));
    t.remove_container_later(&other);
    let id = docker.ok(&["network", "create", "--label", "a=b", &network]).await?;
    same("the id's length", id.len(), 64)?;
    holds("ls", docker.ok(&["network", "ls", "--no-trunc"]).await?.contains(&id), &id)?;
    docker
        .ok(&[
            "run",
            "-d",
            "--network",
            &network,
            "--network-alias",
            "alias",
            "--name",
            &other,
            t.image(),
            "sleep",
            "1000",
        ])
        .await?;
    let shown = docker.ok(&["network", "inspect", "-f", "{{range .Containers}}{{.Name}}{{end}}", &network]).await?;
    same("who is on it", shown, other.as_str())?;
    docker.ok(&["network", "disconnect", &network, &other]).await?;
    docker.ok(&["network", "connect", "--alias", "again", &network, &other]).await?;
    docker.ok(&["rm", "-f", &other, &name]).await?;
    docker.ok(&["network", "rm", &network]).await.map(drop)
}

async fn volumes(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    let volume = t.name("data");
    t.later(format!("/volumes/{volume}?force=1"));
    same("create", docker.ok(&["volume", "create", &volume]).await?, volume.as_str())?;
    let bind = format!("{volume}:/data");
    let run = |line: &'static str| {
        ["run", "--rm", "--network", "none", "-v", &bind, t.image(), "sh", "-c", line].map(str::to_owned)
    };
    for line in ["echo kept > /data/file", "cat /data/file"] {
        let args = run(line);
        let said = docker.ok(&args.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        same("what is read", said.as_str(), if line.starts_with("cat") { "kept" } else { "" })?;
    }
    let listed = docker.ok(&["volume", "ls", "-q", "--filter", &format!("name={volume}")]).await?;
    same("ls", listed.rsplit('/').next(), Some(volume.as_str()))?;
    docker.ok(&["volume", "inspect", &volume]).await?;
    docker.ok(&["volume", "rm", &volume]).await.map(drop)
}

async fn events_of_the_past(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    let name = t.name("one");
    t.remove_container_later(&name);
    docker.ok(&["run", "--network", "none", "--name", &name, t.image(), "true"]).await?;
    let look = async || {
        let filter = format!("container={name}");
        let args = ["events", "--since", "5m", "--until", "0s", "--filter", &filter, "--format", "{{.Action}}"];
        let told = docker.ok(&args).await?;
        let whole = ["create", "attach", "start", "die"].iter().all(|a| told.lines().any(|l| l == *a));
        Ok(if whole { Ok(()) } else { Err(told) })
    };
    t.until("its life is told", look).await
}

async fn watching(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    let name = stays(t, &docker, "one").await?;
    let stats = docker.ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", &name]).await?;
    holds("stats", stats.contains(&name) && stats.contains('/'), stats)?;
    let top = async || {
        let said = docker.ok(&["top", &name]).await?;
        Ok(if said.contains("sleep 1000") { Ok(()) } else { Err(said) })
    };
    t.until("top shows the program", top).await?;
    docker.ok(&["exec", &name, "touch", "/new"]).await?;
    same("diff", docker.ok(&["diff", &name]).await?, "A /new")?;
    same("port", docker.ok(&["port", &name]).await?, "")
}

async fn changing(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    let name = stays(t, &docker, "one").await?;
    docker.ok(&["update", "--cpu-shares", "256", "--restart", "always", &name]).await?;
    let shown =
        docker.ok(&["inspect", "-f", "{{.HostConfig.CpuShares}} {{.HostConfig.RestartPolicy.Name}}", &name]).await?;
    same("update", shown, "256 always")?;
    docker.ok(&["pause", &name]).await?;
    docker.ok(&["unpause", &name]).await?;
    let renamed = t.name("renamed");
    t.remove_container_later(&renamed);
    docker.ok(&["rename", &name, &renamed]).await?;
    docker.ok(&["stop", "-t", "0", &renamed]).await?;
    docker
        .ok(&["kill", &renamed])
        .await
        .err()
        .map_or_else(|| holds("kill of a stopped one fails", false, ()), |_| Ok(()))
}

async fn disk_usage(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    let df = docker.ok(&["system", "df"]).await?;
    for word in ["Images", "Containers", "Local Volumes", "Build Cache"] {
        holds(format_args!("df has {word}"), df.contains(word), &df)?;
    }
    docker.ok(&["system", "df", "-v"]).await.map(drop)
}

async fn errors_and_their_exit_codes(t: &Target) -> Result<(), Failure> {
    let docker = docker(t)?;
    let image = format!("127.0.0.1:1/{}", t.name("nothing"));
    let said = docker.say(&["run", "--rm", &image], b"").await?;
    holds("an image that is nowhere", said.code == 125 && said.err.contains("127.0.0.1:1"), said)?;
    let name = t.name("one");
    t.remove_container_later(&name);
    let said = docker.say(&["run", "--rm", "--network", "none", "--name", &name, t.image(), "/no/such"], b"").await?;
    holds("a program that is not there", said.code == 127 && said.err.contains("/no/such"), said)?;
    let said = docker.say(&["logs", &t.name("nothing")], b"").await?;
    let wanted = format!("No such container: {}", t.name("nothing"));
    holds("a container that is not there", said.code == 1 && said.err.contains(&wanted), said)
}
