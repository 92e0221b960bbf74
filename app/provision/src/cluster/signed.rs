//! What the operator signs about nodes: who belongs to the cluster, who was removed, and which certificates hold no more.

use super::Cluster;
use osier_members::{CONTEXT, Removal, Signed, Statement};
use osier_model::{NodeName, PeerId};
use osier_pki::Issued;
use osier_ui::Failure;
use std::collections::BTreeSet;
use time::OffsetDateTime;

impl Cluster {
    /// Signs what has not been signed of the members.
    pub(super) fn vouch(&mut self) -> Result<(), Failure> {
        for node in self.record.members.clone() {
            if !self.roll.says(&node) {
                let serial = self.roll.serial(node.peer) + 1;
                self.sign(&Statement::Member { serial, node })?;
            }
        }
        Ok(())
    }

    /// Takes a member out for good: its heir gets its addresses, once all others know, or with `forced` at once.
    pub(crate) fn expel(
        &mut self,
        name: &NodeName,
        heir: PeerId,
        forced: bool,
        now: OffsetDateTime,
    ) -> Result<(), Failure> {
        let Some(at) = self.record.members.iter().position(|m| m.name == *name) else { return Ok(()) };
        let member = self.record.members.remove(at);
        self.record.managers.remove(name);
        self.record.cleared.remove(name);
        self.record.leaving.remove(name);
        if let Some(node) = self.nodes.remove(name) {
            self.revoke(&node.issued, now).map_err(anyhow::Error::new)?;
        }
        let removal = Removal { peer: member.peer, name: member.name, heir, forced };
        self.sign(&Statement::Removed { serial: self.roll.serial(member.peer) + 1, removal })
    }

    /// Has everybody who hears of it refuse a certificate.
    fn revoke(&mut self, issued: &Issued, now: OffsetDateTime) -> Result<(), osier_pki::Error> {
        self.record.revoked.push(hex::encode(osier_pki::serial(&issued.cert_pem)?));
        let serials: Vec<Vec<u8>> = self.record.revoked.iter().filter_map(|serial| hex::decode(serial).ok()).collect();
        self.revoked = Some(self.authority.revoke(&serials, now)?);
        Ok(())
    }

    /// Lets the heirs of a node that was removed before have its addresses at once.
    pub(crate) fn force(&mut self, mut removal: Removal) -> Result<(), Failure> {
        removal.forced = true;
        self.sign(&Statement::Removed { serial: self.roll.serial(removal.peer) + 1, removal })
    }

    /// The nodes that were removed.
    pub(crate) fn removed(&self) -> BTreeSet<PeerId> {
        self.roll.removals().map(|removal| removal.peer).collect()
    }

    /// The removals of nodes of this name.
    pub(crate) fn removals(&self, name: &NodeName) -> Vec<Removal> {
        self.roll.removals().filter(|removal| removal.name == *name).cloned().collect()
    }

    fn sign(&mut self, statement: &Statement) -> Result<(), Failure> {
        let text = statement.text();
        let signature = self.authority.sign(&[CONTEXT, text.as_bytes()].concat()).map_err(anyhow::Error::new)?;
        self.roll.take(&[Signed { text, signature: hex::encode(signature) }], |_, _| true);
        self.record.roll = self.roll.signed();
        Ok(())
    }
}
