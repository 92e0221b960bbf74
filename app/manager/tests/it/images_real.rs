//! Images on real engines: built by both builders, pushed to and pulled from a registry with a password and a
//! certificate of its own, pruned and measured.

use crate::{
    docker::{Docker, pack, programs},
    dockerd::Dockerd,
    registry::{AUTH, PASSWORD, Registry, USER},
    world::World,
};
use std::{fs, path::Path};

/// A context whose image prints what was in its file, and whose build runs something.
fn context(folder: &Path, text: &str) -> String {
    let context = folder.join(text);
    fs::create_dir_all(&context).unwrap();
    fs::write(context.join("file"), text).unwrap();
    let dockerfile = "FROM box:1\nARG WHO\nCOPY file /file\nRUN echo built for $WHO > /who\nCMD cat /file /who\n";
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    context.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_built_pushed_pulled_and_pruned() {
    let registry = Registry::start().await;
    let mounts = registry.mounts();
    let (one, two) = tokio::join!(Dockerd::start_in("node-1", &mounts), Dockerd::start_in("node-2", &mounts));
    let world = World::start().await;
    world.cluster.set_members([one.target(), two.target()].into());
    world.healthy(2).await;
    let folder = tempfile::tempdir().unwrap();
    let tar = pack(folder.path()).await;
    for (number, program) in programs().into_iter().enumerate() {
        let docker = Docker::new(program, &world, folder.path());
        docker.ok(&["import", tar.to_str().unwrap(), "box:1"]).await;
        for builder in ["0", "1"] {
            // Newer command lines have BuildKit in a plugin, which Debian 12 does not have.
            let docker = docker.clone().with("DOCKER_BUILDKIT", builder);
            if builder == "0" || docker.can_build_with_buildkit().await {
                builds(&docker, &format!("{builder}{number}"), folder.path()).await;
            }
        }
        registers(&world, &docker, &registry, [&one, &two]).await;
        measures(&docker, [&one, &two]).await;
    }
}

/// One builder's image runs on every node, wherever it was built.
async fn builds(docker: &Docker, builder: &str, folder: &Path) {
    let (tag, text) = ("built:1", format!("text-{builder}"));
    let context = context(folder, &text);
    let build = ["build", "-q", "--network=none", "--build-arg", "WHO=me", "-t", tag];
    docker.ok(&[&build[..], &[&context]].concat()).await;
    for name in ["first", "second"] {
        let said = docker.ok(&["run", "--net=none", "--name", name, tag]).await;
        assert_eq!(said, format!("{text}built for me"));
    }
    let mut names: Vec<String> =
        docker.ok(&["ps", "-a", "--format", "{{.Names}}"]).await.lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["node-1/first", "node-2/second"]);
    docker.ok(&["rm", "first", "second"]).await;
    // The context from standard input; with BuildKit that is a request of its own.
    let packed = tokio::process::Command::new("tar").args(["-C", &context, "-c", "."]).output().await.unwrap().stdout;
    let said = docker.say(&[&build[..], &["-"]].concat(), &packed).await;
    assert_eq!(said.code, 0, "{said:?}");
}

/// Images go to a registry, and come back on every node, only with the right password.
async fn registers(world: &World, docker: &Docker, registry: &Registry, engines: [&Dockerd; 2]) {
    let name = format!("{}/team/box", registry.name);
    let (first, second) = (format!("{name}:1"), format!("{name}:2"));
    docker.ok(&["tag", "box:1", &first]).await;
    docker.ok(&["tag", "built:1", &second]).await;
    let denied = docker.say(&["push", &first], b"").await;
    assert!(denied.code == 1 && denied.err.contains("no basic auth credentials"), "{denied:?}");
    let login = ["login", "-u", USER, "--password-stdin", &registry.name];
    let wrong = docker.say(&login, b"wrong").await;
    assert!(wrong.code == 1 && wrong.err.contains("401 Unauthorized"), "{wrong:?}");
    let right = docker.say(&login, PASSWORD.as_bytes()).await;
    assert!(right.code == 0 && right.out.contains("Login Succeeded"), "{right:?}");

    docker.ok(&["push", &first]).await;
    let pushed = docker.ok(&["push", "-a", &name]).await;
    assert!(pushed.contains("\n1: digest: ") && pushed.contains("\n2: digest: "), "{pushed}");
    docker.ok(&["rmi", &first, &second]).await;
    let pulled = docker.ok(&["pull", &first]).await;
    for engine in engines {
        let told = format!("{}: Pulling {first}... : done\n", engine.name);
        assert!(pulled.contains(&told), "{pulled}");
        assert!(engine.has(&first).await, "{}", engine.name);
    }
    assert!(!pulled.contains("Downloading"), "each layer by itself: {pulled}");
    let none = docker.say(&["pull", &format!("{name}:none")], b"").await;
    assert!(none.code == 1 && none.err.contains("manifest unknown"), "{none:?}");

    // What a registry has of an image is asked with the password, too.
    let distribution = async |auth: &str| {
        let request = http::Request::get(format!("/distribution/{first}/json")).header("x-registry-auth", auth);
        let request = request.body(osier_engine::empty()).unwrap();
        world.client.send(request).await.unwrap().status()
    };
    assert_eq!((distribution(AUTH).await, distribution("").await.is_success()), (http::StatusCode::OK, false));

    // Run pulls with the password of its user, and says what the registry says without it.
    let run = ["run", "--rm", "--net=none", &second];
    docker.ok(&run).await;
    docker.ok(&["rmi", &second]).await;
    docker.ok(&["logout", &registry.name]).await;
    let denied = docker.say(&run, b"").await;
    assert!(denied.code == 125 && denied.err.contains("no basic auth credentials"), "{denied:?}");
}

/// Image sets move by save and load; what is not used is measured and removed on all nodes.
async fn measures(docker: &Docker, engines: [&Dockerd; 2]) {
    let saved = docker.bytes(&["save", "box:1", "built:1"]).await;
    docker.ok(&["rmi", "built:1"]).await;
    let loaded = docker.say(&["load", "-q"], &saved).await;
    assert!(loaded.code == 0 && loaded.out.contains("Loaded image: built:1\n"), "{loaded:?}");
    docker.ok(&["create", "--net=none", "--name", "user", "built:1"]).await;
    let used = docker.say(&["rmi", "built:1"], b"").await;
    assert!(used.code == 1 && used.err.contains("conflict: unable to remove repository reference"), "{used:?}");
    let usage = docker.ok(&["system", "df", "--format", "{{.Type}}: {{.TotalCount}}"]).await;
    assert!(usage.contains("Containers: 1\n") && usage.contains("Build Cache: "), "{usage}");
    docker.ok(&["system", "df", "-v"]).await;
    docker.ok(&["container", "prune", "-f"]).await;
    assert_eq!(docker.ok(&["ps", "-aq"]).await, "");
    let kept = docker.ok(&["image", "prune", "-af", "--filter", "label=none-has-it"]).await;
    assert_eq!(kept, "Total reclaimed space: 0B");
    docker.ok(&["builder", "prune", "-af"]).await;
    docker.ok(&["image", "prune", "-af"]).await;
    assert_eq!(docker.ok(&["images", "-aq"]).await, "");
    for engine in engines {
        assert!(engine.images().await.is_empty(), "{}", engine.name);
    }
}
