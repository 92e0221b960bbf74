//! The `osier lab` commands as a program of their own.

use clap::Parser;
use osier_lab::LabCommand;
use osier_ui::{Output, Ui};
use std::process::ExitCode;

#[derive(Parser)]
struct Cli {
    #[arg(short, long, global = true)]
    output: Option<String>,
    #[command(subcommand)]
    command: LabCommand,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = if cli.output.as_deref() == Some("json") { Output::Json } else { Output::Text };
    let ui = Ui::new(output, false);
    match osier_lab::run(cli.command, &ui).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            ui.failure(&failure);
            ExitCode::from(failure.code())
        }
    }
}
