//! Two real engines behind the manager, used with Docker's own command line, in every version that is installed.

use crate::{
    docker::{Docker, pack, programs},
    dockerd::Dockerd,
    world::{World, until},
};
use std::{
    path::Path,
    time::{Duration, Instant},
};

async fn image_ids(engine: &Dockerd) -> Vec<String> {
    engine.images().await.iter().map(|i| i["Id"].as_str().unwrap().to_owned()).collect()
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
        let docker = Docker::new(program, &world, folder.path());
        images(&docker, tar, [&one, &two], folder.path()).await;
        placing(&docker, [&one, &two]).await;
        interaction(&docker).await;
        lifecycle(&docker).await;
        wishes(&docker).await;
        volumes(&docker).await;
        docker.ok(&["rm", "-f", "first", "second"]).await;
        assert_eq!(docker.ok(&["ps", "-aq"]).await, "");
        docker.ok(&["rmi", "box:1"]).await;
    }
    let docker = Docker::new(programs().remove(0), &world, folder.path());
    docker.ok(&["import", tar, "box:1"]).await;
    for name in ["first", "second"] {
        docker.ok(&["run", "-d", "--net=none", "--name", name, "box:1", "sleep", "1000"]).await;
    }
    two.kill();
    until("the loss is seen", async || docker.ok(&["info"]).await.contains("└ Status: Unhealthy")).await;
    let start = Instant::now();
    world.get("/containers/json?all=1").await;
    assert!(start.elapsed() < Duration::from_secs(1), "the list took {:?}", start.elapsed());
    let all = docker.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).await;
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

/// What the environment wishes about the place is done, and kept with the container.
async fn wishes(docker: &Docker) {
    for (wish, node) in [
        ("constraint:node==node-2", "node-2"),
        ("constraint:node!=/-2$/", "node-1"),
        ("constraint:ostype==linux", "node-1"),
        ("affinity:container==second", "node-2"),
        ("affinity:image==~nothing*", "node-1"),
        ("whitelist:node==node-2|node-3", "node-2"),
    ] {
        docker.ok(&["create", "--net=none", "--name", "wishes", "-e", wish, "box:1", "true"]).await;
        let format = "{{.Node.Name}} [{{range .Config.Env}}{{.}}{{end}}] {{len .Config.Labels}}";
        assert_eq!(docker.ok(&["inspect", "-f", format, "wishes"]).await, format!("{node} [] 2"), "{wish}");
        docker.ok(&["rm", "wishes"]).await;
    }
    let refused = docker.say(&["create", "--net=none", "-e", "constraint:zone==mars", "box:1", "true"], b"").await;
    let text =
        "Unable to find a node that satisfies the following conditions \n[available container slots]\n[zone==mars]";
    assert!(refused.code == 1 && refused.err.contains(text), "{refused:?}");
}

/// A declared volume is made, with its options, where its first container lands, and holds the others there.
async fn volumes(docker: &Docker) {
    let list = async || docker.ok(&["volume", "ls", "--format", "{{.Name}}"]).await;
    docker.ok(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "data"]).await;
    assert_eq!(list().await, "data");
    let run = async |wish: &str, command: &str| {
        docker.say(&["run", "--rm", "--net=none", "-v", "data:/d", "-e", wish, "box:1", "sh", "-c", command], b"").await
    };
    assert_eq!(run("constraint:node==node-2", "true").await.code, 0);
    assert_eq!(list().await, "node-2/data");
    assert_eq!(docker.ok(&["volume", "inspect", "-f", "{{.Options.type}}", "data"]).await, "tmpfs");
    assert_eq!(run("A=b", "hostname").await.code, 0, "node-1 has fewer containers, but not the data");
    let refused = run("constraint:node==node-1", "true").await;
    assert!(refused.code == 125 && refused.err.contains("\n[volume==data]\n"), "{refused:?}");
    assert_eq!(list().await, "node-2/data");
    docker.ok(&["volume", "create", "node-1/own"]).await;
    assert_eq!(docker.ok(&["volume", "ls", "--filter", "node=node-1", "--format", "{{.Name}}"]).await, "node-1/own");
    docker.ok(&["volume", "rm", "data", "own"]).await;
    assert_eq!(list().await, "");
}
