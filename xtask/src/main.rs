//! The project's only build vocabulary: `cargo xtask demo|test|ci|bench|fuzz|sim|tidy|dist`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a build tool talks to whoever runs it")]

mod ci;
mod demo;
mod fuzz;
mod shell;
mod sim;
mod tidy;

use clap::Parser;
use std::process::ExitCode;

/// Builds, tests and shows Osier.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Makes a cluster of three hosts on this machine and takes the tour on it.
    Demo(demo::DemoArgs),
    /// Runs every test, those on real hosts included.
    Test(ci::TestArgs),
    /// Runs what a change must pass: format, lints, dependency rules, tests.
    Ci(ci::CiArgs),
    /// Measures against baselines in the same run and prints ratios.
    Bench(ci::BenchArgs),
    /// Feeds what takes input from outside with made-up input.
    Fuzz(fuzz::FuzzArgs),
    /// Simulates whole clusters over virtual time and checks what must always hold.
    Sim(sim::SimArgs),
    /// Checks the house rules that no compiler knows.
    Tidy,
    /// Builds the binary that is shipped.
    Dist,
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => ci::test(&args),
        Task::Ci(args) => ci::check(&args),
        Task::Bench(args) => ci::bench(&args),
        Task::Fuzz(args) => fuzz::fuzz(&args),
        Task::Sim(args) => sim::sim(&args),
        Task::Tidy => tidy::run(),
        Task::Dist => ci::dist(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
