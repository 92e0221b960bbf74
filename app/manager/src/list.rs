//! `osier create` and `osier list`: a new token, and the engines that a discovery service tells of.

use crate::{
    args::{CreateArgs, ListArgs},
    client::Place,
    settings::{Caller, Listing},
};
use osier_model::Token;
use osier_ui::{ExitKind, Failure, Ui};

/// Prints a new token, made here: a token names a cluster and opens nothing, so nobody has to be asked for one.
pub fn create(args: &CreateArgs, caller: &Caller, ui: &Ui) -> Result<(), Failure> {
    if !args.surplus.is_empty() {
        let program = &caller.program;
        let message = format!("the `create` command takes no arguments. See '{program} create --help'.");
        return Err(Failure::usage(message));
    }
    ui.line(Token::from_random(rand::random()));
    Ok(())
}

/// Prints one engine per line. `place` knows the managers of the clusters that this machine provisioned.
pub async fn list(
    args: ListArgs,
    caller: &Caller,
    ui: &Ui,
    place: impl Fn(&Token) -> Option<Place>,
) -> Result<(), Failure> {
    let Listing { timeout, backend } = Listing::check(&args, caller, &place)?;
    let listed = match tokio::time::timeout(timeout, backend.list()).await {
        Ok(listed) => listed.map_err(|e| Failure::message_only(ExitKind::Failed, e))?,
        Err(_) => return Err(Failure::message_only(ExitKind::Failed, "Timed out")),
    };
    let entries: Vec<String> = listed.iter().map(ToString::to_string).collect();
    if ui.is_json() {
        ui.json(&entries);
    } else {
        entries.iter().for_each(|entry| ui.line(entry));
    }
    Ok(())
}
