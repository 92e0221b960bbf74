//! The packet-filter rules that let a lab on an engine of ours reach the world: masquerading and forwarding, each rule
//! marked with its lab, so that exactly these can be taken away again.
//!
//! Must not touch rules without the mark. An engine that was there before makes and removes such rules itself.

use crate::{
    command::{CommandError, command, run},
    plan::LabName,
};
use ipnet::Ipv4Net;

/// The chains that `iptables` makes unasked in every table it looks at.
const BUILT_IN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// A rule: its table, how it is put in (`-A` or `-I`), its chain and its matches.
type Rule = (&'static str, &'static str, &'static str, Vec<String>);

fn mark(lab: &LabName) -> String {
    format!("osier-lab:{lab}")
}

fn rules(lab: &LabName, subnet: Ipv4Net) -> [Rule; 3] {
    let (bridge, subnet, mark) = (lab.bridge(), subnet.to_string(), mark(lab));
    let rule = |words: &[&str]| {
        let comment = ["-m", "comment", "--comment", &mark];
        words.iter().chain(&comment).map(|w| (*w).to_owned()).collect::<Vec<_>>()
    };
    [
        ("nat", "-A", "POSTROUTING", rule(&["-s", &subnet, "!", "-o", &bridge, "-j", "MASQUERADE"])),
        ("filter", "-I", "FORWARD", rule(&["-i", &bridge, "-j", "ACCEPT"])),
        ("filter", "-I", "FORWARD", rule(&["-o", &bridge, "-j", "ACCEPT"])),
    ]
}

/// Puts the lab's rules in; those that are there already stay.
pub(crate) async fn open(lab: &LabName, subnet: Ipv4Net) -> Result<(), CommandError> {
    for (table, how, chain, matches) in rules(lab, subnet) {
        let there = run(iptables(table).args(["-C", chain]).args(&matches)).await;
        if there.is_err() {
            run(iptables(table).args([how, chain]).args(&matches)).await?;
        }
    }
    Ok(())
}

/// Takes every rule with the lab's mark out.
pub(crate) async fn close(lab: &LabName) -> Result<(), CommandError> {
    let saved = run(&mut command("iptables-save")).await?;
    for (table, rule) in marked(&saved, &mark(lab)) {
        run(iptables(&table).arg("-D").args(&rule)).await?;
    }
    Ok(())
}

/// Removes the tables that looking at rules leaves behind, where nothing is in them. Only the nftables flavour of
/// `iptables` leaves any; without `nft` there is nothing to do.
pub(crate) async fn sweep() {
    for table in ["nat", "filter"] {
        let listed = run(command("nft").args(["list", "table", "ip", table])).await;
        if listed.is_ok_and(|text| is_vacant(&text)) {
            // A rule that came in meanwhile makes this fail, rightly.
            let _ = run(command("nft").args(["delete", "table", "ip", table])).await;
        }
    }
}

fn iptables(table: &str) -> tokio::process::Command {
    let mut iptables = command("iptables");
    iptables.args(["-w", "-t", table]);
    iptables
}

/// The rules with this comment in what `iptables-save` prints: the table of each, and the words after `-A`.
fn marked(saved: &str, mark: &str) -> Vec<(String, Vec<String>)> {
    let mut table = String::new();
    let mut found = Vec::new();
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name.trim().to_owned();
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let words: Vec<String> = rule.split_whitespace().map(|w| w.trim_matches('"').to_owned()).collect();
            if words.windows(2).any(|pair| pair[0] == "--comment" && pair[1] == mark) {
                found.push((table.clone(), words));
            }
        }
    }
    found
}

/// Whether a table that `nft` printed holds nothing but built-in chains that accept all.
fn is_vacant(listed: &str) -> bool {
    listed.lines().map(str::trim).all(|line| {
        let chain = line.strip_prefix("chain ").and_then(|rest| rest.strip_suffix(" {"));
        chain.is_some_and(|name| BUILT_IN.contains(&name))
            || line.starts_with("table ip ")
            || line.starts_with('#')
            || matches!(line, "" | "}")
            || (line.starts_with("type ") && line.ends_with("policy accept;"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_labs_own_rules_are_found() {
        let saved = "*filter\n:FORWARD ACCEPT [0:0]\n\
            -A FORWARD -i osl1 -m comment --comment \"osier-lab:lab\" -j ACCEPT\n\
            -A FORWARD -i osl2 -m comment --comment \"osier-lab:lab2\" -j ACCEPT\nCOMMIT\n\
            *nat\n-A POSTROUTING -s 10.213.0.0/24 ! -o osl1 -m comment --comment osier-lab:lab -j MASQUERADE\nCOMMIT\n";
        let found = marked(saved, "osier-lab:lab");
        let tables: Vec<&str> = found.iter().map(|(table, _)| table.as_str()).collect();
        assert_eq!(tables, ["filter", "nat"]);
        assert_eq!(found[0].1.join(" "), "FORWARD -i osl1 -m comment --comment osier-lab:lab -j ACCEPT");
    }

    #[test]
    fn a_table_is_vacant_only_without_rules_chains_and_policies() {
        let vacant = "table ip nat {\n\tchain POSTROUTING {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n\t}\n}\n";
        assert!(is_vacant(vacant));
        assert!(!is_vacant(&vacant.replace("policy accept;", "policy drop;")));
        assert!(!is_vacant(&vacant.replace("chain POSTROUTING", "chain DOCKER")));
        assert!(!is_vacant(&vacant.replace("\t}\n", "\t\toifname \"eth0\" masquerade\n\t}\n")));
    }
}
