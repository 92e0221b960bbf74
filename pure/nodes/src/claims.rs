//! Which member has which name and which engine's id. Two members of one name could not be told apart, and one engine
//! under two addresses would count twice; so of two the later one is refused, until the first leaves.

use crate::{Reason, Trouble};
use std::collections::BTreeMap;

/// Who an engine says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The engine's id; empty where it has none.
    pub id: String,
    /// Its host's own name.
    pub host: String,
    /// The node's name in the cluster.
    pub name: String,
}

/// A member cannot be what it says it is, because another one is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The engine is a member under another address.
    #[error("this is the engine at {holder} under another address; take one of the two out of the discovery")]
    SameEngine {
        /// The address of the member that stays.
        holder: String,
    },
    /// Another host's engine has the same id.
    #[error(
        "the engine at {holder} on host '{host}' has the same id '{id}', as a cloned disk has; on one of the two, stop \
         docker, remove /etc/docker/key.json and engine-id in its data folder, and start docker"
    )]
    ClonedId {
        /// The id.
        id: String,
        /// The address of the member that stays.
        holder: String,
        /// Its host's name.
        host: String,
    },
    /// Another engine has the same name.
    #[error("the engine at {holder} is called '{name}' already")]
    Name {
        /// The name.
        name: String,
        /// The address of the member that stays.
        holder: String,
    },
}

impl From<Conflict> for Trouble {
    fn from(conflict: Conflict) -> Self {
        let reason = match conflict {
            Conflict::SameEngine { .. } | Conflict::ClonedId { .. } => Reason::DuplicateId,
            Conflict::Name { .. } => Reason::DuplicateName,
        };
        Self { reason, text: conflict.to_string() }
    }
}

/// The members that were accepted, by their addresses.
#[derive(Debug, Default)]
pub struct Claims(BTreeMap<String, Identity>);

impl Claims {
    /// Accepts the member at an address as what it says it is, in place of what it was. Gives back its former identity
    /// where that was another one.
    pub fn claim(&mut self, address: &str, identity: Identity) -> Result<Option<Identity>, Conflict> {
        let others = || self.0.iter().filter(|(holder, _)| *holder != address);
        if let Some((holder, other)) = others().find(|(_, o)| !o.id.is_empty() && o.id == identity.id) {
            let holder = holder.clone();
            return Err(if other.host == identity.host {
                Conflict::SameEngine { holder }
            } else {
                Conflict::ClonedId { id: identity.id, holder, host: other.host.clone() }
            });
        }
        if let Some((holder, _)) = others().find(|(_, o)| o.name == identity.name) {
            return Err(Conflict::Name { name: identity.name, holder: holder.clone() });
        }
        let former = self.0.insert(address.to_owned(), identity.clone());
        Ok(former.filter(|f| *f != identity))
    }

    /// Frees what the member at an address was.
    pub fn release(&mut self, address: &str) {
        self.0.remove(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn identity(id: &str, host: &str) -> Identity {
        Identity { id: id.into(), host: host.into(), name: host.into() }
    }

    #[test]
    fn the_first_stays_and_the_second_waits_for_it_to_leave() {
        let mut claims = Claims::default();
        assert_eq!(claims.claim("a:1", identity("X", "n1")), Ok(None));
        assert_eq!(claims.claim("b:1", identity("X", "n1")), Err(Conflict::SameEngine { holder: "a:1".into() }));
        let cloned = claims.claim("b:1", identity("X", "n2")).unwrap_err();
        assert!(matches!(&cloned, Conflict::ClonedId { holder, .. } if holder == "a:1"), "{cloned}");
        let trouble = Trouble::from(claims.claim("b:1", identity("Y", "n1")).unwrap_err());
        assert_eq!(trouble.reason, Reason::DuplicateName);
        assert_eq!(trouble.text, "the engine at a:1 is called 'n1' already");
        claims.release("a:1");
        assert_eq!(claims.claim("b:1", identity("X", "n1")), Ok(None));
        assert!(claims.claim("a:1", identity("X", "n1")).is_err());
    }

    #[test]
    fn another_engine_at_a_known_address_is_noticed() {
        let mut claims = Claims::default();
        claims.claim("a:1", identity("X", "n1")).unwrap();
        assert_eq!(claims.claim("a:1", identity("X", "n1")), Ok(None));
        assert_eq!(claims.claim("a:1", identity("X", "renamed")), Ok(Some(identity("X", "n1"))));
        assert_eq!(claims.claim("a:1", identity("Y", "n1")), Ok(Some(identity("X", "renamed"))));
        assert_eq!(claims.claim("b:1", identity("X", "renamed")), Ok(None), "the former one's id is free");
        for address in ["c:1", "d:1"] {
            assert_eq!(claims.claim(address, identity("", address)), Ok(None), "engines without id are told by name");
        }
    }

    proptest! {
        #[test]
        fn no_name_and_no_id_is_held_twice(steps in prop::collection::vec((0_u8..4, 0_u8..4, 0_u8..4, any::<bool>()), 0..40)) {
            let mut claims = Claims::default();
            for (address, id, name, leave) in steps {
                let address = format!("{address}:1");
                if leave {
                    claims.release(&address);
                } else {
                    let _ = claims.claim(&address, identity(&format!("id-{id}"), &format!("n{name}")));
                }
                let ids: BTreeSet<_> = claims.0.values().map(|i| &i.id).collect();
                let names: BTreeSet<_> = claims.0.values().map(|i| &i.name).collect();
                prop_assert_eq!((ids.len(), names.len()), (claims.0.len(), claims.0.len()));
            }
        }
    }
}
