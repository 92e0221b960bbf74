//! The command line of classic Swarm's binary: its commands, its global flags, flags as Go's programs take them, and its
//! words for what is wrong. Every mistake exits with 1.

use crate::args::{Cli, Command, Format};
use clap::{ArgAction, CommandFactory, Parser, Subcommand, error::ErrorKind};
use std::ffi::OsString;

/// What `--version` prints behind the name.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"));
/// Where this was built from, where the build says.
const COMMIT: &str = match option_env!("OSIER_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// A Docker-native clustering system
#[derive(Debug, Parser)]
#[command(name = "swarm", disable_version_flag = true, args_override_self = true)]
struct Swarm {
    /// Log more than usual
    #[arg(long, env = "DEBUG", hide_env_values = true, value_parser = clap::builder::FalseyValueParser::new())]
    debug: bool,
    /// What to log: debug, info, warn, error, fatal, panic
    #[arg(short, long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Tell Docker's clients that experimental features are on
    #[arg(long)]
    experimental: bool,
    /// Print the version
    #[arg(short, long, action = ArgAction::SetTrue)]
    version: bool,
    #[command(subcommand)]
    command: Option<SwarmCommand>,
}

#[derive(Debug, Subcommand)]
#[command(args_override_self = true)]
enum SwarmCommand {
    #[command(visible_alias = "c")]
    Create(osier_manager::CreateArgs),
    #[command(visible_alias = "l", args_override_self = true)]
    List(osier_manager::ListArgs),
    #[command(visible_alias = "m", args_override_self = true)]
    Manage(Box<osier_manager::ManageArgs>),
    #[command(visible_alias = "j", args_override_self = true)]
    Join(osier_manager::JoinArgs),
}

/// What a command line asks for.
pub(crate) enum Wish {
    /// To run a command.
    Run(Box<Cli>),
    /// To be told something on standard output.
    Tell(String),
    /// It is wrong, and why.
    Mistake(String),
}

/// Reads a command line, the program's name first.
pub(crate) fn parse(words: Vec<OsString>) -> Wish {
    let mut command = Swarm::command();
    let mut words = plain_flags(words, &command);
    if words.get(1).is_some_and(|word| word == "h") {
        words[1] = "help".into();
    }
    let swarm = match Swarm::try_parse_from(&words) {
        Ok(swarm) => swarm,
        Err(error) => return told(&error),
    };
    if swarm.version {
        return Wish::Tell(format!("swarm {VERSION} ({COMMIT})\n"));
    }
    let log = match level(swarm.log_level.as_deref(), swarm.debug) {
        Ok(level) => level.to_owned(),
        Err(mistake) => return Wish::Mistake(mistake),
    };
    let command = match swarm.command {
        Some(SwarmCommand::Create(args)) => Command::Create(args),
        Some(SwarmCommand::List(args)) => Command::List(args),
        Some(SwarmCommand::Manage(args)) => Command::Manage(args),
        Some(SwarmCommand::Join(args)) => Command::Join(args),
        None => return Wish::Tell(command.render_long_help().to_string()),
    };
    Wish::Run(Box::new(Cli { output: Format::Text, log, debug: false, experimental: swarm.experimental, command }))
}

/// The level of the log by the classic's words; empty for the usual one.
fn level(word: Option<&str>, debug: bool) -> Result<&'static str, String> {
    Ok(match word.map(str::to_ascii_lowercase).as_deref() {
        None if debug => "debug",
        None => "",
        Some("debug") => "debug",
        Some("info") => "info",
        Some("warn" | "warning") => "warn",
        // There is nothing worse than an error here: what is fatal is told in any case.
        Some("error" | "fatal" | "panic") => "error",
        Some(_) => return Err(format!("not a valid logrus Level: {:?}", word.unwrap_or_default())),
    })
}

fn told(error: &clap::Error) -> Wish {
    let word = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Wish::Tell(error.render().to_string()),
        ErrorKind::InvalidSubcommand => {
            Wish::Mistake(format!("No help topic for '{}'", word(clap::error::ContextKind::InvalidSubcommand)))
        }
        ErrorKind::UnknownArgument => {
            let flag = word(clap::error::ContextKind::InvalidArg);
            let flag = format!("-{}", flag.trim_start_matches('-'));
            Wish::Mistake(format!("Incorrect Usage.\n\n{}\nflag provided but not defined: {flag}", error.render()))
        }
        _ => Wish::Mistake(format!("Incorrect Usage.\n\n{}", error.render())),
    }
}

/// Go's programs take a long flag with one dash as well as with two, and `--flag=true` for a flag without a value.
fn plain_flags(words: Vec<OsString>, command: &clap::Command) -> Vec<OsString> {
    let commands = || std::iter::once(command).chain(command.get_subcommands());
    let known = |name: &str| {
        let args = commands().flat_map(clap::Command::get_arguments);
        let found = args.filter(|arg| arg.get_long_and_visible_aliases().is_some_and(|all| all.contains(&name)));
        found.last()
    };
    let plain = |word: OsString| {
        let Some(text) = word.to_str().filter(|text| text.starts_with('-')) else { return Some(word) };
        let bare = text.strip_prefix("--").unwrap_or(&text[1..]);
        let (name, value) = bare.split_once('=').map_or((bare, None), |(name, value)| (name, Some(value)));
        let Some(arg) = known(name).filter(|_| name.len() > 1) else { return Some(word) };
        match (arg.get_action(), value) {
            (ArgAction::SetTrue, Some("1" | "t" | "T" | "true" | "TRUE" | "True")) => Some(format!("--{name}").into()),
            (ArgAction::SetTrue, Some("0" | "f" | "F" | "false" | "FALSE" | "False")) => None,
            _ => Some(format!("--{bare}").into()),
        }
    };
    words.into_iter().filter_map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(Into::into).collect()
    }

    fn mistake(line: &str) -> String {
        match parse(words(line)) {
            Wish::Mistake(text) => text,
            Wish::Tell(text) => panic!("{line} tells {text}"),
            Wish::Run(cli) => panic!("{line} runs {cli:?}"),
        }
    }

    fn told(line: &str) -> String {
        match parse(words(line)) {
            Wish::Tell(text) => text,
            _ => panic!("{line} tells nothing"),
        }
    }

    #[test]
    fn the_definitions_are_consistent() {
        Swarm::command().debug_assert();
    }

    #[test]
    fn flags_are_taken_as_go_takes_them() {
        for (line, plain) in [
            ("swarm -debug manage -strategy=binpack", "swarm --debug manage --strategy=binpack"),
            ("swarm manage --tls=true --replication=false --cors=1", "swarm manage --tls --cors"),
            (
                "swarm -l info manage -H a -f port -c swarm --tls=maybe",
                "swarm -l info manage -H a -f port -c swarm --tls=maybe",
            ),
            ("swarm list token://-x -unknown", "swarm list token://-x -unknown"),
        ] {
            assert_eq!(plain_flags(words(line), &Swarm::command()), words(plain), "{line}");
        }
    }

    #[test]
    fn commands_have_the_classics_short_names() {
        for line in ["swarm c", "swarm l n:1", "swarm m n:1 -c swarm", "swarm j n:1 --addr h:1 --ttl 2m --ttl 3m"] {
            assert!(matches!(parse(words(line)), Wish::Run(_)), "{line}");
        }
        let Wish::Run(cli) = parse(words("swarm -l warning --experimental m n:1")) else { panic!() };
        assert_eq!((cli.log.as_str(), cli.experimental), ("warn", true));
    }

    #[test]
    fn mistakes_have_the_classics_words() {
        assert_eq!(mistake("swarm bogus"), "No help topic for 'bogus'");
        assert_eq!(mistake("swarm -l loud c"), "not a valid logrus Level: \"loud\"");
        for (line, flag) in [("swarm --bogus c", "-bogus"), ("swarm m --bogus n:1", "-bogus"), ("swarm -x c", "-x")] {
            let text = mistake(line);
            assert!(text.starts_with("Incorrect Usage."), "{text}");
            assert!(text.ends_with(&format!("flag provided but not defined: {flag}")), "{text}");
        }
        assert!(mistake("swarm m --heartbeat").starts_with("Incorrect Usage."));
    }

    #[test]
    fn help_and_version_are_told() {
        for line in ["swarm", "swarm help", "swarm h", "swarm --help", "swarm -h"] {
            let text = told(line);
            assert!(text.contains("A Docker-native clustering system") && text.contains("manage"), "{line}: {text}");
        }
        for line in ["swarm m --help", "swarm help manage", "swarm manage -h"] {
            let text = told(line);
            for part in ["--engine-refresh-min-interval", "swarm.overcommit", "etcd://", "SWARM_DISCOVERY"] {
                assert!(text.contains(part), "{line} lacks {part}: {text}");
            }
        }
        for line in ["swarm --version", "swarm -v"] {
            assert!(told(line).starts_with(concat!("swarm version ", env!("CARGO_PKG_VERSION"), " (")), "{line}");
        }
    }
}
