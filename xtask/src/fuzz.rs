//! Coverage-guided fuzzing with the stable compiler: libFuzzer, and the counters that LLVM puts into every crate.

use crate::{
    ci::install,
    shell::{build_with, command, root, run},
};
use anyhow::{Context, Result, bail};
use std::{fs, path::Path};

/// What to fuzz.
#[derive(clap::Args)]
pub(crate) struct FuzzArgs {
    /// The targets, by the names of the folders in fuzz/corpus; all where none is named.
    pub(crate) targets: Vec<String>,
    /// How long each target is fed, in seconds.
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
}

/// What makes an instrumented program: counters on every edge, a table of them, and the operands of comparisons. They
/// are flags of LLVM and need no other compiler, only one unit of code per crate, so that the linker keeps all tables.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks --cfg fuzzing";

/// The longest input that is made up.
const LENGTH: usize = 4096;

/// `cargo xtask fuzz`: what breaks a promise is written into the target's corpus, where it stays as a test.
pub(crate) fn fuzz(args: &FuzzArgs) -> Result<()> {
    let corpus = root().join("fuzz/corpus");
    let known = targets(&corpus)?;
    if let Some(unknown) = args.targets.iter().find(|t| !known.contains(t)) {
        bail!("there is no target '{unknown}'; there are {}", known.join(", "));
    }
    let chosen = if args.targets.is_empty() { &known } else { &args.targets };
    install(&["g++"])?;
    let folder = root().join("target/fuzz");
    let program = build_with("osier-fuzz", "fuzz", "release", |cargo| {
        cargo.args(["--features", "libfuzzer", "--target-dir"]).arg(&folder).env("RUSTFLAGS", FLAGS);
    })?;
    for target in chosen {
        let grown = folder.join("corpus").join(target);
        fs::create_dir_all(&grown).with_context(|| format!("make '{}'", grown.display()))?;
        let seeds = corpus.join(target);
        let mut fuzz = command(&program);
        fuzz.env("OSIER_FUZZ", target).arg(&grown).arg(&seeds);
        fuzz.arg(format!("-artifact_prefix={}/", seeds.display()));
        fuzz.args([format!("-max_total_time={}", args.seconds), format!("-max_len={LENGTH}")]);
        fuzz.args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0"]);
        let words = corpus.join(format!("{target}.dict"));
        if words.is_file() {
            fuzz.arg(format!("-dict={}", words.display()));
        }
        run(&mut fuzz).with_context(|| format!("target '{target}' found what it must not; see {}", seeds.display()))?;
    }
    Ok(())
}

fn targets(corpus: &Path) -> Result<Vec<String>> {
    let folders = fs::read_dir(corpus).with_context(|| format!("read '{}'", corpus.display()))?;
    let folders = folders.filter_map(|f| f.ok()).filter(|f| f.path().is_dir());
    let mut names: Vec<String> = folders.filter_map(|f| f.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}
