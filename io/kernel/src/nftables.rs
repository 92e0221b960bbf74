//! nftables' vocabulary (linux/netfilter/nf_tables.h) for tables of the bridge's family: as much as guards need.
//!
//! Must not know what a table is for. Everything here is values; nothing is sent.

use crate::nfnetlink::{Attributes, Message};
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE};

/// The subsystem's number in nfnetlink.
pub(crate) const SUBSYSTEM: u8 = 10;
/// The multicast group that is told of every change to a ruleset.
pub(crate) const CHANGES: u32 = 7;

/// `NFPROTO_BRIDGE`.
const BRIDGE: u8 = 7;

const NEWTABLE: u8 = 0;
const GETTABLE: u8 = 1;
const DELTABLE: u8 = 2;
const NEWCHAIN: u8 = 3;
const GETCHAIN: u8 = 4;
const NEWRULE: u8 = 6;
const GETRULE: u8 = 7;
const NEWSET: u8 = 9;
const NEWSETELEM: u8 = 12;
const GETSETELEM: u8 = 13;
const DELSETELEM: u8 = 14;

/// Kinds of attributes; each list has a numbering of its own.
pub(crate) mod kind {
    pub(crate) mod table {
        pub(crate) const NAME: u16 = 1;
        pub(crate) const FLAGS: u16 = 2;
    }
    pub(crate) mod chain {
        pub(crate) const TABLE: u16 = 1;
        pub(crate) const NAME: u16 = 3;
        pub(crate) const HOOK: u16 = 4;
        pub(crate) const POLICY: u16 = 5;
        pub(crate) const TYPE: u16 = 7;
        pub(crate) const HOOK_NUMBER: u16 = 1;
        pub(crate) const HOOK_PRIORITY: u16 = 2;
    }
    pub(crate) mod rule {
        pub(crate) const TABLE: u16 = 1;
        pub(crate) const CHAIN: u16 = 2;
        pub(crate) const EXPRESSIONS: u16 = 4;
        pub(crate) const USERDATA: u16 = 7;
    }
    pub(crate) mod set {
        pub(crate) const TABLE: u16 = 1;
        pub(crate) const NAME: u16 = 2;
        pub(crate) const FLAGS: u16 = 3;
        pub(crate) const KEY_TYPE: u16 = 4;
        pub(crate) const KEY_LENGTH: u16 = 5;
        pub(crate) const ID: u16 = 10;
        pub(crate) const USERDATA: u16 = 13;
    }
    pub(crate) mod elements {
        pub(crate) const TABLE: u16 = 1;
        pub(crate) const SET: u16 = 2;
        pub(crate) const LIST: u16 = 3;
        pub(crate) const KEY: u16 = 1;
    }
    /// A member of a list.
    pub(crate) const MEMBER: u16 = 1;
    /// The bytes of a datum.
    pub(crate) const VALUE: u16 = 1;
    pub(super) const VERDICT: u16 = 2;
    pub(super) const VERDICT_CODE: u16 = 1;
}

/// `NF_ACCEPT` as a chain's policy.
pub(crate) const ACCEPT: u32 = 1;

/// How `nft` shows a set's keys; the kernel only keeps it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeyType {
    /// `ifname`, 16 bytes.
    Interface,
    /// `ifname . ether_addr . ipv4_addr`, each filled up to four bytes: 28 bytes.
    InterfaceMacAddress,
}

/// What a rule does for a packet, one step after the other. Registers are named by their number.
#[derive(Debug, Clone)]
pub(crate) enum Expression<'a> {
    /// Puts what the kernel knows of the packet into a register.
    Meta(Meta, Register),
    /// Puts so many bytes from this offset of a header into a register.
    Payload { base: Base, offset: u32, length: u32, register: Register },
    /// Ends the rule unless what begins at the register begins with these bytes.
    Equal(Register, &'a [u8]),
    /// Ends the rule if what begins at the register begins with these bytes.
    Unequal(Register, &'a [u8]),
    /// Ends the rule unless what begins at the register is in the set.
    In(Register, &'a str),
    /// Ends the rule if what begins at the register is in the set.
    NotIn(Register, &'a str),
    /// Ends the chain: the packet goes on.
    Accept,
    /// Ends the packet.
    Drop,
}

/// What the kernel knows of a packet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Meta {
    /// The EtherType, that of what is inside an outermost VLAN tag; two bytes, big-endian.
    Protocol = 1,
    /// The name of the port that it came by, 16 bytes.
    InterfaceName = 6,
}

/// Where a header begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Base {
    /// Ethernet's.
    Link = 0,
    /// IPv4's or ARP's.
    Network = 1,
}

/// One of sixteen registers of four bytes that lie one behind the other (`NFT_REG32_00` and so on).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Register(pub(crate) u8);

impl Register {
    fn number(self) -> u32 {
        8 + u32::from(self.0)
    }
}

fn message(operation: u8, flags: u16, attributes: Attributes) -> Message {
    Message { kind: u16::from_be_bytes([SUBSYSTEM, operation]), flags, family: BRIDGE, attributes }
}

/// Creates a table, unless it is there.
pub(crate) fn create_table(name: &str) -> Message {
    message(NEWTABLE, NLM_F_CREATE, Attributes::default().text(kind::table::NAME, name).number(kind::table::FLAGS, 0))
}

/// Deletes a table with all that is in it.
pub(crate) fn delete_table(name: &str) -> Message {
    message(DELTABLE, 0, Attributes::default().text(kind::table::NAME, name))
}

/// Creates a chain that every frame passes before its bridge looks at where it goes. What no rule decides is accepted.
pub(crate) fn create_prerouting_chain(table: &str, name: &str, priority: i32) -> Message {
    use kind::chain;
    let hook = Attributes::default().number(chain::HOOK_NUMBER, 0);
    let hook = hook.bytes(chain::HOOK_PRIORITY, &priority.to_be_bytes());
    let attributes = Attributes::default()
        .text(chain::TABLE, table)
        .text(chain::NAME, name)
        .nested(chain::HOOK, &hook)
        .number(chain::POLICY, ACCEPT)
        .text(chain::TYPE, "filter");
    message(NEWCHAIN, NLM_F_CREATE, attributes)
}

/// Creates a set. `id` is its number within the batch.
pub(crate) fn create_set(table: &str, name: &str, key: KeyType, id: u32) -> Message {
    use kind::set;
    const INTERFACE: u32 = 41;
    const ETHERNET: u32 = 9;
    const IPV4: u32 = 7;
    // The second is a note of `nft` to itself: key in the machine's order of bytes.
    let (key_type, length, note): (u32, u32, &[u8]) = match key {
        KeyType::Interface => (INTERFACE, 16, &[0, 4, 1, 0, 0, 0]),
        KeyType::InterfaceMacAddress => (INTERFACE << 12 | ETHERNET << 6 | IPV4, 28, &[0, 4, 0, 0, 0, 0]),
    };
    let attributes = Attributes::default()
        .text(set::TABLE, table)
        .text(set::NAME, name)
        .number(set::FLAGS, 0)
        .number(set::KEY_TYPE, key_type)
        .number(set::KEY_LENGTH, length)
        .number(set::ID, id)
        .bytes(set::USERDATA, note);
    message(NEWSET, NLM_F_CREATE, attributes)
}

/// Adds a rule behind those that a chain has. `nft` shows the comment, of at most 250 bytes, with it.
pub(crate) fn add_rule(table: &str, chain: &str, expressions: &Attributes, comment: &str) -> Message {
    use kind::rule;
    let attributes = Attributes::default()
        .text(rule::TABLE, table)
        .text(rule::CHAIN, chain)
        .nested(rule::EXPRESSIONS, expressions)
        .bytes(rule::USERDATA, &userdata(comment));
    message(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, attributes)
}

/// A comment as `nft` keeps it with a rule: kind, length, text and a zero byte.
pub(crate) fn userdata(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    [&[0, length], comment.as_bytes(), &[0]].concat()
}

/// The expressions of a rule.
pub(crate) fn expressions(list: &[Expression]) -> Attributes {
    list.iter().fold(Attributes::default(), |out, expression| out.nested(kind::MEMBER, &self::expression(expression)))
}

fn expression(expression: &Expression) -> Attributes {
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    let none = Attributes::default;
    let compare = |register: &Register, operator, value| {
        none().number(1, register.number()).number(2, operator).nested(3, &none().bytes(kind::VALUE, value))
    };
    let lookup =
        |register: &Register, set, inverted| none().text(1, set).number(2, register.number()).number(5, inverted);
    let verdict = |code| {
        let verdict = none().nested(kind::VERDICT, &none().number(kind::VERDICT_CODE, code));
        none().number(1, 0).nested(2, &verdict)
    };
    let (name, data) = match expression {
        Expression::Meta(key, register) => ("meta", none().number(1, register.number()).number(2, *key as u32)),
        Expression::Payload { base, offset, length, register } => (
            "payload",
            none().number(1, register.number()).number(2, *base as u32).number(3, *offset).number(4, *length),
        ),
        Expression::Equal(register, value) => ("cmp", compare(register, 0, value)),
        Expression::Unequal(register, value) => ("cmp", compare(register, 1, value)),
        Expression::In(register, set) => ("lookup", lookup(register, set, 0)),
        Expression::NotIn(register, set) => ("lookup", lookup(register, set, 1)),
        Expression::Accept => ("immediate", verdict(1)),
        Expression::Drop => ("immediate", verdict(0)),
    };
    none().text(NAME, name).nested(DATA, &data)
}

/// Adds elements to a set; those that are there stay. The keys of one message have at most 32 KiB.
pub(crate) fn add_elements(table: &str, set: &str, keys: &[&[u8]]) -> Message {
    message(NEWSETELEM, NLM_F_CREATE, elements(table, set, keys))
}

/// Deletes elements from a set. One that is not there is an error (ENOENT).
pub(crate) fn delete_elements(table: &str, set: &str, keys: &[&[u8]]) -> Message {
    message(DELSETELEM, 0, elements(table, set, keys))
}

fn elements(table: &str, set: &str, keys: &[&[u8]]) -> Attributes {
    use kind::elements;
    let list = keys.iter().fold(Attributes::default(), |list, key| {
        let key = Attributes::default().bytes(kind::VALUE, key);
        list.nested(kind::MEMBER, &Attributes::default().nested(elements::KEY, &key))
    });
    Attributes::default().text(elements::TABLE, table).text(elements::SET, set).nested(elements::LIST, &list)
}

/// Asks for all tables.
pub(crate) fn tables() -> Message {
    message(GETTABLE, 0, Attributes::default())
}

/// Asks for all chains; some kernels leave those of other tables out.
pub(crate) fn chains(table: &str) -> Message {
    message(GETCHAIN, 0, Attributes::default().text(kind::chain::TABLE, table))
}

/// Asks for all rules in their order; some kernels leave those of other tables out.
pub(crate) fn rules(table: &str) -> Message {
    message(GETRULE, 0, Attributes::default().text(kind::rule::TABLE, table))
}

/// Asks for a set's elements. A set that is not there is an error (ENOENT).
pub(crate) fn elements_of(table: &str, set: &str) -> Message {
    use kind::elements;
    message(GETSETELEM, 0, Attributes::default().text(elements::TABLE, table).text(elements::SET, set))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nfnetlink::{attribute, attributes, number, text};

    #[test]
    fn an_expression_is_its_name_and_its_data() {
        let list = [
            Expression::Meta(Meta::Protocol, Register(0)),
            Expression::Equal(Register(0), &[8, 0]),
            Expression::NotIn(Register(4), "ports"),
            Expression::Drop,
        ];
        let bytes = expressions(&list);
        let seen: Vec<_> = attributes(bytes.as_bytes()).map(|(k, e)| (k, text(attribute(e, 1).unwrap()))).collect();
        assert_eq!(seen, [(1, &b"meta"[..]), (1, b"cmp"), (1, b"lookup"), (1, b"immediate")]);
        let data: Vec<_> = attributes(bytes.as_bytes()).map(|(_, e)| attribute(e, 2).unwrap()).collect();
        assert_eq!(attribute(data[0], 2).and_then(number), Some(1));
        assert_eq!(attribute(attribute(data[1], 3).unwrap(), kind::VALUE), Some(&[8, 0][..]));
        assert_eq!(attribute(data[2], 2).and_then(number), Some(12));
        assert_eq!(attribute(data[2], 5).and_then(number), Some(1));
    }

    #[test]
    fn elements_are_keys_in_a_list() {
        let message = add_elements("t", "s", &[&[1; 28], &[2; 28]]);
        assert_eq!(message.kind, 0x0a0c);
        let list = attribute(message.attributes.as_bytes(), kind::elements::LIST).unwrap();
        let keys: Vec<_> = attributes(list)
            .map(|(_, element)| attribute(attribute(element, kind::elements::KEY).unwrap(), kind::VALUE).unwrap())
            .collect();
        assert_eq!(keys, [&[1; 28][..], &[2; 28]]);
    }

    #[test]
    fn a_comment_that_is_too_long_is_no_panic() {
        assert_eq!(userdata("own"), b"\0\x04own\0");
        assert_eq!(userdata(&"x".repeat(300))[1], 255);
    }
}
