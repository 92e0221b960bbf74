//! What an agent is asked: by other agents, and by its engine.

use osier_calls::{control::Message, plugin::Call};
use osier_endpoints::{Endpoint, Table};
use osier_model::PeerId;
use osier_ring::{Allocation, Owner, Ring};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// JSON: what another node asks and answers, one after the other. Whatever it says, what this node has given out stays
/// given out, and its ring can be kept and taken up again.
pub(crate) fn control(data: &[u8]) {
    let Ok(messages) = serde_json::from_slice::<Vec<Message>>(data) else { return };
    let text = serde_json::to_vec(&messages).unwrap();
    assert_eq!(serde_json::from_slice::<Vec<Message>>(&text).unwrap(), messages);
    let peer = |n: u8| PeerId([2, 0, 0, 0, 0, n]);
    let range = "10.1.1.0/24".parse().unwrap();
    let mut ring = Ring::found_among(range, peer(1), &[peer(1), peer(2)].into(), &[]);
    assert!(matches!(ring.allocate(&Owner::new("container:a")), Allocation::Granted(_)));
    let held = |ring: &Ring| ring.held().map(|(a, o)| (a, o.clone())).collect::<BTreeMap<Ipv4Addr, Owner>>();
    let before = held(&ring);
    for message in messages {
        match message {
            Message::AskChunk { request, .. } => {
                let _ = ring.give(peer(2), &request, &[peer(1), peer(2)]);
            }
            Message::Chunk(reply) => drop(ring.accept(&reply)),
            Message::Ring(records) => records.iter().for_each(|record| drop(ring.merge(record))),
            Message::AskMembers | Message::Members(_) | Message::AskRing { .. } | Message::Refused(_) => {}
        }
    }
    assert_eq!(held(&ring), before);
    let kept: Ring = serde_json::from_slice(&serde_json::to_vec(&ring).unwrap()).unwrap();
    assert_eq!(held(&kept.resume(range, peer(1), &[]).unwrap()), before);
}

/// A line with the name of a call, and its body: what is understood has no empty id in it, and an error says something.
pub(crate) fn plugin(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let Some(name) = crate::text(&data[..end]) else { return };
    let body = data.get(end + 1..).unwrap_or_default();
    match Call::read(name, body) {
        Ok(
            Call::DeleteEndpoint { endpoint }
            | Call::Information { endpoint }
            | Call::Join { endpoint, .. }
            | Call::Leave { endpoint }
            | Call::CreateEndpoint { endpoint, .. },
        ) => assert!(!endpoint.is_empty()),
        Ok(Call::CreateNetwork { engine_id, .. } | Call::DeleteNetwork { engine_id }) => assert!(!engine_id.is_empty()),
        Ok(_) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The file of a node's endpoints: it is read back as it was written, and whatever is in it can be worked with.
pub(crate) fn endpoints(data: &[u8]) {
    let Ok(mut table) = serde_json::from_slice::<Table>(data) else { return };
    assert_eq!(serde_json::from_slice::<Table>(&serde_json::to_vec(&table).unwrap()).unwrap(), table);
    for (id, endpoint) in table.endpoints.clone() {
        let network = table.network(&endpoint.network);
        assert!(table.is_here(network) && table.uses(network, endpoint.address));
        table.make(format!("{id}+"), Endpoint { sandbox: None, ..endpoint });
        table.engine_ids(network);
    }
    let left = table.idle();
    table.forget(&left);
    assert!(table.idle().is_empty(), "something that was left over is still there");
}
