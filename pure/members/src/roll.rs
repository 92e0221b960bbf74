//! All statements that hold.

use crate::{CONTEXT, Removal, Signed, Statement};
use osier_model::{PeerId, config::Member};
use sha2::{Digest, Sha256};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, btree_map::Entry},
};

/// The statements of one cluster that hold, each with its signature.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roll {
    members: BTreeMap<PeerId, Held>,
    removed: BTreeMap<PeerId, Held>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    statement: Statement,
    signed: Signed,
}

impl Held {
    /// What orders it among the statements of its kind about its node: the greatest holds.
    fn rank(&self) -> (u64, Reverse<&str>) {
        (self.statement.serial(), Reverse(&self.signed.text))
    }
}

/// A statement was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RollError {
    /// The signature is not the operator's.
    #[error("a statement about the members is not signed by this cluster's operator")]
    Forged,
    /// The operator signed something that this version does not understand.
    #[error("a statement about the members is not understood: it was made by a later version")]
    Unknown,
}

impl Roll {
    /// Takes statements in; true if one of them changed what holds. One that is refused does not keep the others out; the
    /// first refusal is returned beside it.
    pub fn take(
        &mut self,
        statements: &[Signed],
        mut is_signed: impl FnMut(&[u8], &str) -> bool,
    ) -> (bool, Option<RollError>) {
        let (mut changed, mut refused) = (false, None);
        for signed in statements {
            if self.holds(signed) {
                continue;
            }
            match check(signed, &mut is_signed) {
                Ok(statement) => changed |= self.insert(Held { statement, signed: signed.clone() }),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        (changed, refused)
    }

    /// The nodes that belong to the cluster, by name.
    pub fn members(&self) -> Vec<Member> {
        let statements = self.members.values().map(|held| &held.statement);
        let mut members: Vec<Member> = statements
            .filter_map(|statement| match statement {
                Statement::Member { node, .. } if !self.removed.contains_key(&node.peer) => Some(node.clone()),
                _ => None,
            })
            .collect();
        members.sort_by(|a, b| (&a.name, a.peer).cmp(&(&b.name, b.peer)));
        members
    }

    /// The nodes that were removed.
    pub fn removals(&self) -> impl Iterator<Item = &Removal> {
        self.removed.values().filter_map(|held| match &held.statement {
            Statement::Removed { removal, .. } => Some(removal),
            Statement::Member { .. } => None,
        })
    }

    /// The highest serial of the statements about a node, 0 where there is none.
    pub fn serial(&self, peer: PeerId) -> u64 {
        let held = [self.members.get(&peer), self.removed.get(&peer)];
        held.into_iter().flatten().map(|held| held.statement.serial()).max().unwrap_or(0)
    }

    /// Whether this node is a member in exactly these words.
    pub fn says(&self, member: &Member) -> bool {
        let held = self.members.get(&member.peer).map(|held| &held.statement);
        matches!(held, Some(Statement::Member { node, .. }) if node == member)
    }

    /// What another node has to be told to know the same.
    pub fn signed(&self) -> Vec<Signed> {
        self.members.values().chain(self.removed.values()).map(|held| held.signed.clone()).collect()
    }

    /// Short for all that holds, the first half of a SHA-256 in hexadecimal: two nodes with the same digest know the same
    /// members, removals and heirs.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for held in self.members.values().chain(self.removed.values()) {
            hash.update((held.signed.text.len() as u64).to_be_bytes());
            hash.update(&held.signed.text);
        }
        hex::encode(&hash.finalize()[..16])
    }

    /// Whether this very statement holds already. (Its signature was checked then; another one of the same text adds nothing.)
    fn holds(&self, signed: &Signed) -> bool {
        self.members.values().chain(self.removed.values()).any(|held| held.signed.text == signed.text)
    }

    fn insert(&mut self, held: Held) -> bool {
        let list = match &held.statement {
            Statement::Member { .. } => &mut self.members,
            Statement::Removed { .. } => &mut self.removed,
        };
        match list.entry(held.statement.peer()) {
            Entry::Vacant(place) => drop(place.insert(held)),
            Entry::Occupied(place) if held.rank() <= place.get().rank() => return false,
            Entry::Occupied(mut place) => drop(place.insert(held)),
        }
        true
    }
}

fn check(signed: &Signed, is_signed: &mut impl FnMut(&[u8], &str) -> bool) -> Result<Statement, RollError> {
    if !is_signed(&[CONTEXT, signed.text.as_bytes()].concat(), &signed.signature) {
        return Err(RollError::Forged);
    }
    serde_json::from_str(&signed.text).map_err(|_| RollError::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn peer(last: u8) -> PeerId {
        PeerId([2, 0, 0, 0, 0, last])
    }

    fn member(last: u8, address: u8) -> Member {
        Member { name: format!("n{last}").parse().unwrap(), peer: peer(last), address: [192, 0, 2, address].into() }
    }

    fn removal(of: u8, heir: u8) -> Removal {
        Removal { peer: peer(of), name: format!("n{of}").parse().unwrap(), heir: peer(heir), forced: false }
    }

    /// Signed by a key that everybody can check: the text itself.
    fn sign(statement: &Statement) -> Signed {
        let text = statement.text();
        Signed { signature: format!("operator of {}", text.len()), text }
    }

    fn is_signed(bytes: &[u8], signature: &str) -> bool {
        bytes.starts_with(CONTEXT) && signature == format!("operator of {}", bytes.len() - CONTEXT.len())
    }

    fn roll(statements: &[Statement]) -> Roll {
        let mut roll = Roll::default();
        let signed: Vec<Signed> = statements.iter().map(sign).collect();
        assert_eq!(roll.take(&signed, is_signed).1, None);
        roll
    }

    #[test]
    fn a_removal_is_final_and_a_new_address_takes_the_place_of_the_old_one() {
        let joined = Statement::Member { serial: 1, node: member(1, 1) };
        let moved = Statement::Member { serial: 2, node: member(1, 9) };
        let gone = Statement::Removed { serial: 2, removal: removal(1, 2) };
        let again = Statement::Member { serial: 7, node: member(1, 1) };
        let mut all = roll(&[Statement::Member { serial: 1, node: member(2, 2) }, moved, joined]);
        assert_eq!(all.members(), [member(1, 9), member(2, 2)]);
        assert!(all.says(&member(1, 9)) && !all.says(&member(1, 1)) && all.serial(peer(1)) == 2);
        assert!(all.take(&[sign(&gone)], is_signed).0 && all.take(&[sign(&again)], is_signed).0);
        assert_eq!(all.members(), [member(2, 2)]);
        assert_ne!(all.digest(), roll(&[Statement::Member { serial: 1, node: member(2, 2) }]).digest());
        assert_eq!(all.removals().collect::<Vec<_>>(), [&removal(1, 2)]);
        assert_eq!(all.take(&[sign(&gone)], is_signed), (false, None), "it is known");
    }

    #[test]
    fn what_the_operator_did_not_sign_is_refused_and_keeps_nothing_else_out() {
        let good = sign(&Statement::Member { serial: 1, node: member(1, 1) });
        let mut forged = sign(&Statement::Member { serial: 9, node: member(1, 66) });
        forged.signature.push('0');
        let mut later = Signed { text: r#"{"promoted":{"serial":1}}"#.into(), signature: String::new() };
        later.signature = format!("operator of {}", later.text.len());
        let mut roll = Roll::default();
        assert_eq!(roll.take(&[forged, good, later], is_signed), (true, Some(RollError::Forged)));
        assert_eq!(roll.members(), [member(1, 1)]);
    }

    fn statements() -> impl Strategy<Value = Vec<Statement>> {
        let one =
            (0..5u8, 0..3u64, 0..3u8, any::<bool>(), any::<bool>()).prop_map(|(who, serial, other, gone, forced)| {
                if gone {
                    Statement::Removed { serial, removal: Removal { forced, ..removal(who, other) } }
                } else {
                    Statement::Member { serial, node: member(who, other) }
                }
            });
        prop::collection::vec(one, 0..20)
    }

    proptest! {
        #[test]
        fn the_order_and_the_way_statements_come_decide_nothing(list in statements(), split in 0..20usize) {
            let forwards = roll(&list);
            let mut reversed: Vec<Statement> = list.clone();
            reversed.reverse();
            prop_assert_eq!(&roll(&reversed), &forwards);
            // Over other nodes, of which each passes on only what holds there.
            let split = split.min(list.len());
            let (mut one, other) = (roll(&list[..split]), roll(&list[split..]));
            prop_assert_eq!(one.take(&other.signed(), is_signed).1, None);
            prop_assert_eq!(&one, &forwards);
            prop_assert_eq!(one.digest(), forwards.digest());
            prop_assert_eq!(roll(&list).take(&forwards.signed(), is_signed), (false, None));
        }

        #[test]
        fn any_text_is_taken_or_refused(text in ".{0,200}", signature in ".{0,20}") {
            let _ = Roll::default().take(&[Signed { text, signature }], |_, _| true);
        }
    }
}
