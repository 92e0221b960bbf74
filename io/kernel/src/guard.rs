//! Guards: frames of a container that bear an address that is not the container's are dropped where they enter its bridge.
//!
//! Must not know the plan as a whole. Everything is in one table of nftables in the fabric's namespace, `bridge osier`: a
//! chain whose rules are always the same, and two sets, the ports that have a guard and who may send there. Rules and sets
//! are exchanged as one change, so no packet ever meets half of them. A container's packet costs one look-up, however many ports
//! there are, and one from a tunnel none. What comes by other ports without a guard (the host's) goes on, too.
//!
//! Of a guarded port's frames, IPv4 has to come from its MAC and address, and ARP has to speak of these as the sender, or of
//! no address, as one who asks whether an address is taken (RFC 5227). The outermost VLAN tag hides nothing, since the kernel
//! looks behind it; frames with more of them are dropped. Other protocols pass, IPv6 among them.

use crate::{
    error::{Doing, Error},
    namespace::Namespace,
    netlink::is,
    nfnetlink::{Attributes, Message, Nfnetlink, attribute, attributes, number, text},
    nftables::{self, Base, Expression, KeyType, Meta, Register, kind},
};
use futures::{Stream, StreamExt, stream};
use nix::errno::Errno;
use osier_fabric::{Guard, TUNNEL_PREFIX};
use osier_model::MacAddr;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, TokioSocket, protocols::NETLINK_NETFILTER};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::Ipv4Addr,
};

const TABLE: &str = "osier";
const CHAIN: &str = "prerouting";
/// Guarded ports, by name.
const PORTS: &str = "ports";
/// Port, MAC and address of who may send there.
const SENDERS: &str = "senders";

/// Before other tables' chains at the same place, such as those that rewrite destinations.
const PRIORITY: i32 = -400;
/// An interface's name in a key, zero bytes behind it.
const NAME: usize = 16;
/// A MAC in a key, filled up to four bytes.
const MAC: usize = 8;
/// Elements in one message.
const CHUNK: usize = 256;
const ATTEMPTS: u32 = 3;

/// What becomes of guards that are there and not named.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    /// They go.
    Removed,
    /// They stay, except those of the ports that are named.
    Kept,
}

/// A set and a key in it.
type Element = (&'static str, Vec<u8>);

/// Makes the guards of a namespace those that are named; returns what it did. Where the kernel has no nftables, that is the
/// error, and nothing has changed.
pub(crate) fn reconcile(namespace: &Namespace, guards: &[Guard], others: Others) -> Result<Vec<String>, Error> {
    let result = namespace.enter(|| {
        let socket = Nfnetlink::open()?;
        let mut attempt = 1;
        loop {
            match once(&socket, guards, others) {
                // Somebody else deletes at the same time.
                Err(e) if is(&e, Errno::ENOENT) && attempt < ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    })?;
    result.doing(|| "guard the ports of containers with nftables")
}

/// The guards of a namespace; of one without nftables, none.
pub(crate) fn observe(namespace: &Namespace) -> Result<Vec<Guard>, Error> {
    let result = namespace.enter(|| {
        let socket = Nfnetlink::open()?;
        Ok::<_, io::Error>(if is_intact(&socket)? { seen(&socket)? } else { BTreeSet::new() })
    })?;
    Ok(result.map(|elements| elements.iter().filter_map(guard_of).collect()).unwrap_or_default())
}

/// One item for each change to the rules of a namespace. Ends where that cannot be told.
pub(crate) fn watch(namespace: &Namespace) -> Result<impl Stream<Item = ()> + Send + use<>, Error> {
    let open = || -> io::Result<TokioSocket> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind_auto()?;
        socket.socket_mut().add_membership(nftables::CHANGES)?;
        Ok(socket)
    };
    let socket = namespace.enter(open)?.ok();
    let told = stream::unfold(socket, |socket| async {
        let socket = socket?;
        let mut piece = Vec::with_capacity(4 << 10);
        match socket.recv(&mut piece).await {
            Ok(()) => Some(((), Some(socket))),
            // So many changes that the kernel had to drop some.
            Err(e) if is(&e, Errno::ENOBUFS) => Some(((), Some(socket))),
            Err(_) => None,
        }
    });
    Ok(told.boxed())
}

fn once(socket: &Nfnetlink, guards: &[Guard], others: Others) -> io::Result<Vec<String>> {
    let intact = is_intact(socket)?;
    let seen = seen(socket)?;
    let mut wanted: BTreeSet<Element> = guards.iter().flat_map(elements).collect();
    if others == Others::Kept {
        let named: BTreeSet<String> = wanted.iter().map(port).collect();
        wanted.extend(seen.iter().filter(|e| !named.contains(&port(e))).cloned());
    }
    let (mut batch, mut done) = (Vec::new(), Vec::new());
    let present = if intact {
        seen
    } else {
        batch.extend(exchange());
        done.push(format!("write the rules of the table '{TABLE}'"));
        BTreeSet::new()
    };
    let (stale, missing): (Vec<&Element>, Vec<&Element>) =
        (present.difference(&wanted).collect(), wanted.difference(&present).collect());
    if intact && stale.is_empty() && missing.is_empty() {
        return Ok(done);
    }
    for set in [PORTS, SENDERS] {
        batch.extend(in_chunks(&stale, set, nftables::delete_elements));
        batch.extend(in_chunks(&missing, set, nftables::add_elements));
    }
    socket.batch(nftables::SUBSYSTEM, &batch)?;
    let guarded: BTreeSet<String> = wanted.iter().map(port).collect();
    let changed: BTreeSet<String> = stale.into_iter().chain(missing).map(port).collect();
    done.extend(changed.into_iter().map(|port| {
        let verb = if guarded.contains(&port) { "guard" } else { "guard no more" };
        format!("{verb} the port '{port}'")
    }));
    Ok(done)
}

fn in_chunks(
    elements: &[&Element],
    set: &str,
    message: impl Fn(&str, &str, &[&[u8]]) -> Message,
) -> impl Iterator<Item = Message> {
    let keys: Vec<&[u8]> = elements.iter().filter(|(s, _)| *s == set).map(|(_, key)| key.as_slice()).collect();
    let messages: Vec<Message> = keys.chunks(CHUNK).map(|keys| message(TABLE, set, keys)).collect();
    messages.into_iter()
}

/// What a guard is in the sets. A name that no interface can have is in none.
fn elements(guard: &Guard) -> Vec<Element> {
    let bytes = guard.port.as_bytes();
    if bytes.is_empty() || bytes.len() >= NAME {
        return Vec::new();
    }
    let mut name = bytes.to_vec();
    name.resize(NAME, 0);
    let sender = |address: Ipv4Addr| {
        let key = [&name[..], &guard.mac.0, &[0; MAC - 6], &address.octets()].concat();
        (SENDERS, key)
    };
    vec![sender(guard.address), sender(Ipv4Addr::UNSPECIFIED), (PORTS, name)]
}

fn guard_of((set, key): &Element) -> Option<Guard> {
    if *set != SENDERS {
        return None;
    }
    let (name, rest) = key.split_at_checked(NAME)?;
    let (mac, address) = rest.split_at_checked(MAC)?;
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?);
    let guard = Guard {
        port: String::from_utf8(text(name).to_vec()).ok()?,
        mac: MacAddr(mac.get(..6)?.try_into().ok()?),
        address,
    };
    (!address.is_unspecified()).then_some(guard)
}

/// The port that an element is about.
fn port((_, key): &Element) -> String {
    String::from_utf8_lossy(text(key.get(..NAME).unwrap_or(key))).into_owned()
}

/// The chain's rules: what each is for, and what it does.
fn rules() -> Vec<(&'static str, Attributes)> {
    use Expression::{Accept, Drop, Equal, In, Meta as Known, NotIn, Payload, Unequal};
    const IPV4: &[u8] = &[0x08, 0x00];
    const ARP: &[u8] = &[0x08, 0x06];
    const TAGS: [&[u8]; 2] = [&[0x81, 0x00], &[0x88, 0xa8]];
    // Ethernet, IPv4, and the lengths of their addresses (RFC 826).
    const ARP_FOR_IPV4: &[u8] = &[0, 1, 0x08, 0x00, 6, 4];
    let (first, mac, address) = (Register(0), Register(4), Register(6));
    let field = |base, offset, length, register| Payload { base, offset, length, register };
    let protocol = |is| [Known(Meta::Protocol, first), Equal(first, is)];
    let source = |register| field(Base::Network, 12, 4, register);
    let dropped = |is| nftables::expressions(&[&protocol(is)[..], &[Drop]].concat());

    let own_ipv4 = [
        source(first),
        Unequal(first, &[0; 4]),
        Known(Meta::InterfaceName, first),
        field(Base::Link, 6, 6, mac),
        source(address),
        In(first, SENDERS),
        Accept,
    ];
    let own_arp = [
        field(Base::Network, 0, 6, first),
        Equal(first, ARP_FOR_IPV4),
        Known(Meta::InterfaceName, first),
        field(Base::Network, 8, 6, mac),
        field(Base::Network, 14, 4, address),
        In(first, SENDERS),
        Accept,
    ];
    let unguarded = [Known(Meta::InterfaceName, first), NotIn(first, PORTS), Accept];
    let tunnelled = [Known(Meta::InterfaceName, first), Equal(first, TUNNEL_PREFIX.as_bytes()), Accept];
    let mut rules = vec![
        ("from other nodes", nftables::expressions(&tunnelled)),
        ("own IPv4", nftables::expressions(&[&protocol(IPV4)[..], &own_ipv4].concat())),
        ("own ARP", nftables::expressions(&[&protocol(ARP)[..], &own_arp].concat())),
        ("of others than containers", nftables::expressions(&unguarded)),
        ("alien IPv4", dropped(IPV4)),
        ("alien ARP", dropped(ARP)),
    ];
    rules.extend(TAGS.map(|tag| ("tag within tag", dropped(tag))));
    rules
}

/// The rules' comments. They end in a digest of all that the table is made of, so that rules of another version of Osier,
/// or of somebody else, are told apart without reading what the kernel made of them.
fn comments() -> Vec<String> {
    let what_is_made = [nftables::create_prerouting_chain(TABLE, CHAIN, PRIORITY)].into_iter().chain(sets());
    let parts = what_is_made.map(|m| m.attributes).chain(rules().into_iter().map(|(_, expressions)| expressions));
    let digest = parts.fold(FNV_START, |digest, part| fnv(digest, part.as_bytes()));
    rules().into_iter().map(|(what, _)| format!("{what} ({digest:016x})")).collect()
}

fn sets() -> [Message; 2] {
    [
        nftables::create_set(TABLE, PORTS, KeyType::Interface, 1),
        nftables::create_set(TABLE, SENDERS, KeyType::InterfaceMacAddress, 2),
    ]
}

/// A new table in place of the one that may be there.
fn exchange() -> Vec<Message> {
    // Deleting a table that is not there would be an error.
    let mut out = vec![nftables::create_table(TABLE), nftables::delete_table(TABLE), nftables::create_table(TABLE)];
    out.extend(sets());
    out.push(nftables::create_prerouting_chain(TABLE, CHAIN, PRIORITY));
    let rules = rules().into_iter().zip(comments());
    out.extend(rules.map(|((_, expressions), comment)| nftables::add_rule(TABLE, CHAIN, &expressions, &comment)));
    out
}

/// Whether the table is there and everything in it but the sets' elements is as we made it.
fn is_intact(socket: &Nfnetlink) -> io::Result<bool> {
    let of_table = |object: &[u8], kind| attribute(object, kind).is_some_and(|name| text(name) == TABLE.as_bytes());
    let tables = socket.dump(&nftables::tables())?;
    let awake = |t: &[u8]| attribute(t, kind::table::FLAGS).and_then(number).unwrap_or_default() == 0;
    if !tables.iter().any(|t| of_table(t, kind::table::NAME) && awake(t)) {
        return Ok(false);
    }
    let mut chains = socket.dump(&nftables::chains(TABLE))?;
    chains.retain(|chain| of_table(chain, kind::chain::TABLE));
    let [chain] = chains.as_slice() else { return Ok(false) };
    let policy = attribute(chain, kind::chain::POLICY).and_then(number);
    let name = attribute(chain, kind::chain::NAME).map(text);
    if name != Some(CHAIN.as_bytes()) || policy != Some(nftables::ACCEPT) {
        return Ok(false);
    }
    let mut rules = socket.dump(&nftables::rules(TABLE))?;
    rules.retain(|rule| of_table(rule, kind::rule::TABLE));
    let seen: Vec<_> = rules.iter().map(|rule| attribute(rule, kind::rule::USERDATA).map(<[u8]>::to_vec)).collect();
    let expected: Vec<_> = comments().iter().map(|comment| Some(nftables::userdata(comment))).collect();
    Ok(seen == expected)
}

/// The elements of the sets that are there.
fn seen(socket: &Nfnetlink) -> io::Result<BTreeSet<Element>> {
    let mut out = BTreeSet::new();
    for set in [PORTS, SENDERS] {
        let pieces = match socket.dump(&nftables::elements_of(TABLE, set)) {
            Err(e) if is(&e, Errno::ENOENT) => continue,
            pieces => pieces?,
        };
        for piece in &pieces {
            let list = attribute(piece, kind::elements::LIST).unwrap_or_default();
            let key = |element| attribute(attribute(element, kind::elements::KEY)?, kind::VALUE);
            out.extend(attributes(list).filter_map(|(_, element)| Some((set, key(element)?.to_vec()))));
        }
    }
    Ok(out)
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits.
fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The guards of a plan, and those of ports that no plan has named yet.
pub(crate) fn with_unplanned(planned: &[Guard], unplanned: &BTreeMap<String, Option<Guard>>) -> Vec<Guard> {
    planned.iter().chain(unplanned.values().flatten()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(port: &str) -> Guard {
        Guard { port: port.to_owned(), mac: MacAddr([2, 0, 0, 0, 0, 1]), address: Ipv4Addr::new(10, 1, 1, 11) }
    }

    #[test]
    fn a_guard_is_a_port_and_its_senders() {
        let guard = guard("vh-11");
        let elements = elements(&guard);
        let lengths: Vec<_> = elements.iter().map(|(set, key)| (*set, key.len())).collect();
        assert_eq!(lengths, [(SENDERS, 28), (SENDERS, 28), (PORTS, 16)]);
        assert!(elements.iter().all(|e| port(e) == "vh-11"));
        let back: Vec<_> = elements.iter().filter_map(guard_of).collect();
        assert_eq!(back, [guard]);
    }

    #[test]
    fn names_that_no_interface_can_have_are_in_no_set() {
        assert!(elements(&guard("")).is_empty());
        assert!(elements(&guard("sixteen-bytes-xx")).is_empty());
        assert_eq!(elements(&guard("fifteen-bytes-x")).len(), 3);
    }

    #[test]
    fn keys_that_make_no_sense_are_no_guards() {
        for key in [vec![], vec![1; 3], vec![0xff; 28], vec![1; 40]] {
            assert_eq!(guard_of(&(SENDERS, key.clone())), None);
            assert!(port(&(PORTS, key)).len() <= 48);
        }
    }

    #[test]
    fn comments_fit_and_tell_the_version() {
        let comments = comments();
        assert_eq!(comments.len(), rules().len());
        assert!(comments.iter().all(|c| c.len() < 100 && c.ends_with(&comments[0][comments[0].len() - 18..])));
        assert_eq!(fnv(FNV_START, b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
