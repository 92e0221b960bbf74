//! `weave status` as Weave Net 0.11 laid it out (spec: Weave Net, 1.10), printed from this node's status.

use crate::status::{Bridge, Status};
use osier_model::PeerId;
use std::fmt::{self, Display, Write};
use time::{OffsetDateTime, macros::format_description};

/// The text of `weave status`.
pub fn status(status: &Status) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_status(&mut out, status);
    out
}

fn write_status(out: &mut String, s: &Status) -> fmt::Result {
    let named = |peer: PeerId| format!("{peer}({})", s.name_of(peer));
    let interface = || s.network.bridge.as_ref().map_or_else(|| "<none>".to_owned(), |b| Interface(b).to_string());
    writeln!(out, "weave router {}", s.version)?;
    writeln!(out, "Encryption {}", if s.network.encrypted { "on" } else { "off" })?;
    writeln!(out, "Our name is {}", named(s.me))?;
    writeln!(out, "Sniffing traffic on {}", interface())?;
    writeln!(out, "MACs:")?;
    for entry in &s.network.macs {
        writeln!(out, "{} -> {} ({})", entry.mac, named(entry.peer), timestamp(entry.since))?;
    }
    writeln!(out, "Peers:")?;
    for peer in &s.peers {
        writeln!(out, "{} (v{}) (UID {})", named(peer.peer), peer.incarnation, peer.uid)?;
        for link in &peer.links {
            let state = if link.established { "" } else { " (unestablished)" };
            writeln!(out, "   -> {} [{}{state}]", named(link.peer), link.address)?;
        }
    }
    write_routes(out, s)?;
    writeln!(out, "Reconnects:")?;
    for peer in &s.reconnects {
        writeln!(out, "->[{}] ({}) trying again", peer.address, peer.problem)?;
    }
    writeln!(out, "\nAllocator subnet {}\n", s.addresses.range)?;
    writeln!(out, "weave DNS {}", s.version)?;
    writeln!(out, "Local domain {}.", s.dns.domain)?;
    writeln!(out, "Listen address {}:53", s.dns.address)?;
    writeln!(out, "mDNS interface {}", interface())?;
    let upstream: Vec<String> = s.dns.upstream.iter().map(ToString::to_string).collect();
    writeln!(out, "Fallback DNS config &{{[{}] [{}] 53 1 5 2}}", upstream.join(" "), s.dns.search.join(" "))?;
    writeln!(out, "Zone database:")?;
    for entry in &s.dns.entries {
        writeln!(out, "{} {} {}.", entry.container.get(..12).unwrap_or(&entry.container), entry.address, entry.name)?;
    }
    Ok(())
}

/// Every peer is one hop away, and this node floods to all that it can reach.
fn write_routes(out: &mut String, s: &Status) -> fmt::Result {
    writeln!(out, "Routes:\nunicast:")?;
    for peer in &s.peers {
        let via = if peer.peer == s.me { PeerId([0; 6]) } else { peer.peer };
        writeln!(out, "{} -> {via}", peer.peer)?;
    }
    writeln!(out, "broadcast:")?;
    let others: Vec<String> = s.peers.iter().filter(|p| p.peer != s.me).map(|p| p.peer.to_string()).collect();
    for peer in &s.peers {
        let via = if peer.peer == s.me { others.join(" ") } else { String::new() };
        writeln!(out, "{} -> [{via}]", peer.peer)?;
    }
    Ok(())
}

/// An interface as Go prints one.
struct Interface<'a>(&'a Bridge);

impl Display for Interface<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bridge { index, name, mac, mtu, up } = self.0;
        let flags = if *up { "up|broadcast|multicast" } else { "broadcast|multicast" };
        write!(f, "&{{{index} {mtu} {name} {mac} {flags}}}")
    }
}

/// A time as Go prints one: `2015-06-03 13:33:09.763506408 +0000 UTC`.
fn timestamp(seconds: f64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:9] +0000 UTC");
    let nanos = (seconds * 1e9) as i128;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&format).unwrap_or_default()
}
