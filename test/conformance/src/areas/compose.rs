//! docker-compose, 1 and 2: a project goes up, stays as it is when told again, and goes down without a trace.

use crate::{
    failure::{Failure, holds, same},
    program::{Program, find},
    scenario::scenarios,
    target::Target,
};
use std::path::PathBuf;

scenarios! { Compose:
    "docker-compose 1 up, down" => compose_one_takes_a_project_up_and_down,
    "docker-compose 1 up --scale, run, exec, logs" => compose_one_scales_and_runs,
    "docker-compose 1 build" => compose_one_builds,
    "docker compose 2 up, down" => compose_two_takes_a_project_up_and_down,
    "docker compose 2 up --scale, run, exec, logs" => compose_two_scales_and_runs,
    "docker compose 2 build" => compose_two_builds,
}

/// A compose with a project of its own.
struct Compose {
    program: Program,
    project: String,
}

/// The command is named by its path or found on it: Debian calls both generations `docker-compose`. The first one runs
/// Docker's command line for `run` and `exec`, as it does by default: by itself it attaches to a container only after its
/// start, when what that printed at once is gone.
async fn generation(t: &Target, wanted: u8) -> Result<Compose, Failure> {
    find("docker").ok_or_else(|| Failure::Absent("docker".into()))?;
    let plugins = ["/usr/libexec/docker/cli-plugins", "/usr/local/lib/docker/cli-plugins"];
    let plugins = plugins.map(|folder| PathBuf::from(folder).join("docker-compose"));
    let named = std::env::var_os("OSIER_COMPOSE").map(PathBuf::from);
    for path in named.into_iter().chain(find("docker-compose")).chain(plugins).filter(|p| p.is_file()) {
        let mut program = Program::new(t, path)?;
        program.set("COMPOSE_ANSI", "never");
        let version = program.say(&["version", "--short"], b"").await?;
        if version.out.trim_start_matches('v').starts_with(&format!("{wanted}.")) {
            return Ok(Compose { program, project: t.name("project").replace("-project", "p") });
        }
    }
    Err(Failure::Absent(format!("compose {wanted}")))
}

impl Compose {
    async fn ok(&self, args: &[&str]) -> Result<String, Failure> {
        self.program.ok(&self.words(args)).await
    }

    fn words<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        ["-p", &self.project].into_iter().chain(args.iter().copied()).collect()
    }

    /// Takes the project down whatever came before.
    async fn down(&self, result: Result<(), Failure>) -> Result<(), Failure> {
        let down = self.ok(&["down", "-v", "-t", "0", "--remove-orphans"]).await;
        result.and(down.map(drop))
    }
}

fn project(t: &Target) -> String {
    format!(
        "version: '3'\nservices:\n  web:\n    image: {0}\n    command: sh -c 'echo web is up; sleep 1000'\n    depends_on: [db]\n    \
         environment: [A=b]\n  db:\n    image: {0}\n    command: sleep 1000\n    volumes: ['data:/data']\nvolumes:\n  data: {{}}\n",
        t.image()
    )
}

async fn up_and_down(t: &Target, generation: Compose) -> Result<(), Failure> {
    generation.program.write("docker-compose.yml", &project(t))?;
    let tried = async {
        generation.ok(&["up", "-d"]).await?;
        let first = generation.ok(&["ps", "-q"]).await?;
        same("the number of containers", first.lines().count(), 2)?;
        generation.ok(&["up", "-d"]).await?;
        same("the containers after a second up", generation.ok(&["ps", "-q"]).await?, first)?;
        let (web, db) = (generation.ok(&["ps", "-q", "web"]).await?, generation.ok(&["ps", "-q", "db"]).await?);
        let (code, said) = t.exec(&web, "ping -c 1 -W 5 db").await?;
        holds("web reaches db by its name", code == 0, said)?;
        same("the volume is written", t.exec(&db, "echo kept > /data/file").await?.0, 0)?;
        generation.ok(&["stop", "-t", "0"]).await?;
        generation.ok(&["start"]).await?;
        let db = generation.ok(&["ps", "-q", "db"]).await?;
        same("the volume is read", t.exec(&db, "cat /data/file").await?.1, "kept\n")
    };
    let result = tried.await;
    generation.down(result).await?;
    let filter = crate::target::filters(
        serde_json::json!({"label": [format!("com.docker.compose.project={}", generation.project)]}),
    );
    for path in [format!("/containers/json?all=1&{filter}"), format!("/networks?{filter}")] {
        same(&path, t.get(&path).await?.is(200)?.list()?.len(), 0)?;
    }
    Ok(())
}

async fn scale_and_run(t: &Target, generation: Compose) -> Result<(), Failure> {
    generation.program.write("docker-compose.yml", &project(t))?;
    let tried = async {
        generation.ok(&["up", "-d", "--scale", "web=3"]).await?;
        same("the number of containers", generation.ok(&["ps", "-q", "web"]).await?.lines().count(), 3)?;
        // A replica that was started may not have printed anything yet.
        let logs = async || {
            let logs = generation.ok(&["logs", "--no-color", "web"]).await?;
            Ok(if logs.matches("web is up").count() == 3 { Ok(()) } else { Err(logs) })
        };
        t.until("every replica's log is there", logs).await?;
        let said = generation.ok(&["exec", "-T", "web", "sh", "-c", "echo $A"]).await?;
        same("exec", said.trim(), "b")?;
        let said = generation.ok(&["run", "--rm", "-T", "web", "sh", "-c", "echo one; echo off"]).await?;
        same("run", said.trim(), "one\noff")?;
        generation.ok(&["up", "-d", "--scale", "web=1"]).await?;
        same("the number after scaling down", generation.ok(&["ps", "-q", "web"]).await?.lines().count(), 1)
    };
    let result = tried.await;
    generation.down(result).await
}

async fn build(t: &Target, mut generation: Compose) -> Result<(), Failure> {
    let image = format!("{}:1", t.name("built"));
    t.later(format!("/images/{image}?force=1"));
    // The classic builder: not every command line at hand brings BuildKit.
    generation.program.set("DOCKER_BUILDKIT", "0");
    let file =
        format!("version: '3'\nservices:\n  web:\n    build: context\n    image: {image}\n    network_mode: none\n");
    generation.program.write("docker-compose.yml", &file)?;
    generation.program.write("context/file", "composed\n")?;
    let dockerfile = format!("FROM {}\nCOPY file /file\nCMD [\"cat\", \"/file\"]\n", t.image());
    generation.program.write("context/Dockerfile", &dockerfile)?;
    let tried = async {
        generation.ok(&["build"]).await?;
        same("what was built", generation.ok(&["run", "--rm", "-T", "web"]).await?.trim(), "composed")
    };
    let result = tried.await;
    generation.down(result).await
}

async fn compose_one_takes_a_project_up_and_down(t: &Target) -> Result<(), Failure> {
    up_and_down(t, generation(t, 1).await?).await
}

async fn compose_one_scales_and_runs(t: &Target) -> Result<(), Failure> {
    scale_and_run(t, generation(t, 1).await?).await
}

async fn compose_one_builds(t: &Target) -> Result<(), Failure> {
    build(t, generation(t, 1).await?).await
}

async fn compose_two_takes_a_project_up_and_down(t: &Target) -> Result<(), Failure> {
    up_and_down(t, generation(t, 2).await?).await
}

async fn compose_two_scales_and_runs(t: &Target) -> Result<(), Failure> {
    scale_and_run(t, generation(t, 2).await?).await
}

async fn compose_two_builds(t: &Target) -> Result<(), Failure> {
    build(t, generation(t, 2).await?).await
}
