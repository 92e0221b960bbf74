//! `osier node rm`: takes a node out of its cluster for good.
//!
//! Order: the removal is signed and kept, the node itself is cleared if it can be reached, the others are told. Each part
//! may be done again: whoever has run the command half does no harm with a second run.

use crate::{
    args::{HostArgs, RemoveNodeArgs},
    cluster::Cluster,
    home::{Home, Record},
    inventory, settings,
    site::{self, Bootstrap},
};
use osier_model::{NodeName, PeerId};
use osier_ui::{Failure, Ui};
use time::OffsetDateTime;

/// Takes a node out of the cluster.
pub async fn run_node_rm(args: RemoveNodeArgs, ui: &Ui) -> Result<(), Failure> {
    let inventory = inventory::read(&args.hosts.from, ui)?;
    let (settings, _) = settings::read(&inventory)?;
    let home = Home::from_env()?;
    if !home.cluster(&settings.name).exists() {
        let failure = Failure::usage(format!("there is no cluster '{}' on this machine", settings.name));
        return Err(failure.hint("run the command where 'osier site' was run"));
    }
    let check = args.change.check;
    let now = OffsetDateTime::now_utc();
    let mut cluster = Cluster::open(&home, &settings, !check, now)?;
    let name = &args.node;
    let is_listed = inventory.hosts().iter().any(|host| host.name() == name.as_str());
    let only = |limit: String| HostArgs { limit: Some(limit), ..args.hosts.clone() };
    let limit = args.hosts.limit.as_deref().unwrap_or("all");
    let rest = if is_listed { only(format!("{limit}:!{name}")) } else { only(limit.to_owned()) };
    // Before anything is signed: the others must be there to be told.
    inventory::select(&inventory, rest.limit.as_deref())?;

    let former = cluster.removals(name);
    let is_member = cluster.record.members.iter().any(|m| m.name == *name);
    if is_member {
        let heir = heir(&cluster.record, name, args.heir.as_ref())?;
        confirm(&args, &cluster.record, heir, ui)?;
        cluster.expel(name, heir, args.force, now)?;
    } else if let Some(last) = former.last() {
        ui.note(format_args!("'{name}' was removed before; the others are told again"));
        confirm(&args, &cluster.record, last.heir, ui)?;
        let gentle = former.into_iter().filter(|removal| args.force && !removal.forced);
        gentle.into_iter().try_for_each(|removal| cluster.force(removal))?;
    } else {
        let names = cluster.record.members.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", ");
        let failure = Failure::usage(format!("cluster '{}' has no node '{name}'", cluster.record.name));
        return Err(failure.hint(format!("its nodes are {names}")));
    }
    if !check {
        cluster.save()?;
    }
    let cleared = if is_listed && !args.keep {
        site::clear(&inventory, &only(name.to_string()), &args.change, &cluster, ui).await?
    } else {
        Vec::new()
    };
    if is_listed && !check {
        ui.note(format_args!("take '{name}' out of the inventory, or the next 'osier site' makes it a new node"));
    }
    site::make(&inventory, &rest, &args.change, Bootstrap::Done, Some(cluster), cleared, ui).await
}

/// Who takes over the addresses of a node: whom the operator names, else the founder, a master, anybody.
fn heir(record: &Record, node: &NodeName, wish: Option<&NodeName>) -> Result<PeerId, Failure> {
    let others: Vec<_> = record.members.iter().filter(|m| m.name != *node).collect();
    if others.is_empty() {
        let failure = Failure::usage(format!("'{node}' is the only node of cluster '{}'", record.name));
        return Err(failure.hint("'osier destroy' takes the cluster away"));
    }
    if record.managers.keys().all(|master| master == node) {
        let failure = Failure::usage(format!("'{node}' is the only master of cluster '{}'", record.name));
        return Err(failure.hint("put another host into [masters] and run 'osier site' first"));
    }
    if let Some(wish) = wish {
        let found = others.iter().find(|m| m.name == *wish);
        return found.map(|m| m.peer).ok_or_else(|| {
            let names = others.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", ");
            Failure::usage(format!("'{wish}' cannot be the heir of '{node}'"))
                .hint(format!("'--heir' takes one of {names}"))
        });
    }
    let founder = others.iter().find(|m| m.peer == record.founder);
    let master = others.iter().find(|m| record.managers.contains_key(&m.name));
    Ok(founder.or(master).map_or(others[0].peer, |m| m.peer))
}

fn confirm(args: &RemoveNodeArgs, record: &Record, heir: PeerId, ui: &Ui) -> Result<(), Failure> {
    if args.yes || args.change.check {
        return Ok(());
    }
    let heir = record.members.iter().find(|m| m.peer == heir).map_or("another node", |m| m.name.as_str());
    let risk = if args.force {
        " It is not waited for nodes that are silent: what they and it have agreed on unseen may be given out twice."
    } else {
        ""
    };
    let question = format!(
        "Remove '{}' from cluster '{}' for good? Its containers lose the network, and {heir} takes over its addresses.{risk}",
        args.node, record.name
    );
    match ui.confirm(&question) {
        true => Ok(()),
        false => Err(Failure::usage("remove nothing without a yes").hint("'--yes' says so beforehand")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::tests::record;
    use osier_model::config::Member;

    #[test]
    fn the_heir_is_whom_the_operator_names_or_one_that_is_likely_to_stay() {
        let member = |last: u8, name: &str| Member {
            name: name.parse().unwrap(),
            peer: PeerId::from_random([last; 6]),
            address: [192, 0, 2, last].into(),
        };
        let name = |name: &str| name.parse::<NodeName>().unwrap();
        let peer = |last: u8| Some(PeerId::from_random([last; 6]));
        // The founder is the one whose identity is made of ones, and 'm' the master.
        let mut record = record("c");
        record.members = vec![member(3, "a"), member(2, "m")];
        let of = |record: &Record, node: &str, wish: Option<&str>| {
            heir(record, &name(node), wish.map(name).as_ref()).map_err(|failure| failure.message())
        };
        assert_eq!(of(&record, "a", None).ok(), peer(2), "the master");
        assert!(of(&record, "m", None).unwrap_err().contains("only master"));
        record.members.push(member(1, "z"));
        assert_eq!(of(&record, "a", None).ok(), peer(1), "the founder");
        assert_eq!(of(&record, "a", Some("m")).ok(), peer(2));
        assert!(of(&record, "a", Some("a")).is_err() && of(&record, "a", Some("b")).is_err());
        record.members.retain(|m| m.name.as_str() == "m");
        assert!(of(&record, "m", None).unwrap_err().contains("only node"));
    }
}
