//! Tests, lints, benchmarks and the shipped binary.

use crate::{
    fuzz::{FuzzArgs, fuzz},
    shell::{build, cargo, command, output, run, works},
    sim::{SimArgs, sim},
    tidy,
};
use anyhow::{Result, bail};
use std::{path::Path, process::Command};

/// What to test.
#[derive(clap::Args)]
pub(crate) struct TestArgs {
    /// Leave out the tests that make real hosts.
    #[arg(long)]
    fast: bool,
    /// Also run what takes longer than a change should wait for.
    #[arg(long)]
    full: bool,
}

/// How much to check.
#[derive(clap::Args)]
pub(crate) struct CiArgs {
    /// Also run what takes longer than a change should wait for.
    #[arg(long)]
    full: bool,
}

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct BenchArgs {
    /// Rows to measure: overlay, swarm, names, dns, footprint, ansible, list, place, idle, run, parallel, stream; all where none is named.
    rows: Vec<String>,
}

/// How large the shipped program may be, in MB.
const LARGEST: f64 = 30.0;
/// Debian packages that the tests use and the lab does not install itself.
const TEST_PACKAGES: [&str; 17] = [
    "busybox-static",
    "curl",
    "debootstrap",
    "docker-compose",
    "docker.io",
    "docker-registry",
    "etcd-server",
    "iperf3",
    "iproute2",
    "iptables",
    "iputils-ping",
    "netcat-openbsd",
    "nftables",
    "openssh-server",
    "sudo",
    "openssl",
    "python3-venv",
];

/// `cargo xtask test`.
pub(crate) fn test(args: &TestArgs) -> Result<()> {
    install(&TEST_PACKAGES)?;
    let osier = build("osier", "osier", "release")?;
    is_static(&osier)?;
    let nextest = works(&mut cargo(&["nextest", "--version"]));
    let mut tests = cargo(if nextest { &["nextest", "run", "--workspace"] } else { &["test", "--workspace"] });
    if args.fast {
        tests.args(["--exclude", "osier-e2e", "--exclude", "osier-conformance"]);
    }
    if args.full {
        tests.args(if nextest { ["--run-ignored", "all"] } else { ["--", "--include-ignored"] });
    }
    run(tests.env("OSIER_BIN", osier))
}

/// `cargo xtask ci`.
pub(crate) fn check(args: &CiArgs) -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    tidy::run()?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))?;
    if !works(&mut cargo(&["deny", "--version"])) {
        // It reads a few files once: what is built quickly serves better than what runs quickly.
        let mut install = cargo(&["install", "cargo-deny", "--locked", "--quiet", "--debug"]);
        run(install.env("CARGO_PROFILE_DEV_DEBUG", "none"))?;
    }
    run(&mut cargo(&["deny", "check", "bans", "licenses", "sources"]))?;
    // A change is judged by one history; a full check makes up another one each time.
    let (steps, seed) = if args.full { (1_000_000, None) } else { (100_000, Some(1)) };
    sim(&SimArgs { steps, seed, rest: vec!["--prove".to_owned()] })?;
    if args.full {
        fuzz(&FuzzArgs { targets: Vec::new(), seconds: 60 })?;
    }
    test(&TestArgs { fast: false, full: args.full })
}

/// `cargo xtask bench`.
pub(crate) fn bench(args: &BenchArgs) -> Result<()> {
    install(&TEST_PACKAGES)?;
    let osier = build("osier", "osier", "release")?;
    is_static(&osier)?;
    let bench = build("osier-e2e", "bench", "release")?;
    run(command(bench).args(&args.rows).env("OSIER_BIN", osier))
}

/// `cargo xtask dist`.
pub(crate) fn dist() -> Result<()> {
    let osier = build("osier", "osier", "dist")?;
    is_static(&osier)?;
    let megabytes = std::fs::metadata(&osier)?.len() as f64 / 1e6;
    println!("{}: {megabytes:.1} MB", osier.display());
    if megabytes > LARGEST {
        bail!("the program has grown above {LARGEST} MB");
    }
    Ok(())
}

/// Fails unless the program links no shared library.
fn is_static(program: &Path) -> Result<()> {
    let listed = Command::new("ldd").arg(program).output()?;
    let text = [listed.stdout, listed.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    if text.contains("statically linked") || text.contains("not a dynamic executable") {
        return Ok(());
    }
    bail!("'{}' links shared libraries:\n{text}", program.display())
}

/// Installs the Debian packages that are missing.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let query = |package: &&&str| {
        let state = output(Command::new("dpkg-query").args(["-W", "-f", "${Status}", package]));
        !state.is_ok_and(|s| s == "install ok installed")
    };
    let missing: Vec<&str> = packages.iter().filter(query).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing missing Debian packages: {}", missing.join(" "));
    run(command("apt-get").args(["-qq", "update"]))?;
    let mut apt = command("apt-get");
    apt.args(["-qq", "install", "--yes", "--no-install-recommends"]).args(missing);
    run(apt.env("DEBIAN_FRONTEND", "noninteractive"))
}
