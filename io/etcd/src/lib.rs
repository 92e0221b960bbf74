//! A client of etcd's v3 API over its JSON gateway (etcd 3.4 and newer): keys, leases, and waiting for a change.
//!
//! Must not know what the keys mean. Several members are tried in turn; the one that answered last is asked first. The
//! gateway speaks HTTP/1.1, writes 64-bit numbers as strings, bytes as base64, and streams as one JSON document per line
//! (etcd documentation, "gRPC gateway").

mod lines;
mod message;

use crate::{
    lines::Lines,
    message::{Granted, Kept, Listed, Streamed, Transaction, Watched},
};
use http::Method;
use osier_discovery::Entry;
use osier_engine::{BoxError, Client, resolve};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use message::KeyValue;

/// How long a member may take for one answer before the next one is asked.
const ANSWER: Duration = Duration::from_secs(3);

/// etcd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A member's name has no address.
    #[error("resolve '{host}'")]
    Resolve {
        /// The name.
        host: String,
        /// Why not.
        source: BoxError,
    },
    /// A member could not be asked, or it refused.
    #[error("ask etcd at {endpoint}")]
    Call {
        /// The member.
        endpoint: Entry,
        /// Its answer, or why there is none.
        source: osier_engine::Error,
    },
    /// A member took too long.
    #[error("no answer from etcd at {0} within {seconds} s", seconds = ANSWER.as_secs())]
    Deadline(Entry),
    /// A watch ended.
    #[error("watch etcd")]
    Watch(#[source] BoxError),
    /// No endpoint was given.
    #[error("ask etcd: no endpoint is known")]
    NoEndpoint,
}

impl Error {
    /// Whether another member may do better.
    fn is_of_one_member(&self) -> bool {
        match self {
            Self::Call { source, .. } => source.status().is_none_or(|status| status.is_server_error()),
            _ => true,
        }
    }
}

/// A lease: keys put with it vanish when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease(i64);

/// The keys below a prefix at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// etcd's revision at that moment; see [`Etcd::changed`].
    pub revision: i64,
    /// In the order of their keys.
    pub entries: Vec<KeyValue>,
}

/// What became of an attempt to create a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    /// It is ours.
    Created,
    /// Somebody has it: what it holds, at this moment.
    Held(Listing),
}

/// A client of one etcd cluster.
pub struct Etcd {
    endpoints: Vec<Entry>,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// Which endpoint is asked first, and the connections to it once there are some.
    current: Mutex<(usize, Option<Client>)>,
}

impl Etcd {
    /// A client of these members; it connects when it is asked something.
    pub fn new(endpoints: Vec<Entry>, tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        Self { endpoints, tls, current: Mutex::default() }
    }

    /// All keys that begin so.
    pub async fn list(&self, prefix: &str) -> Result<Listing, Error> {
        Ok(self.ask::<Listed>("/v3/kv/range", &message::prefix(prefix)).await?.into())
    }

    /// One key; the listing is empty while it does not exist.
    pub async fn get(&self, key: &str) -> Result<Listing, Error> {
        Ok(self.ask::<Listed>("/v3/kv/range", &message::key(key)).await?.into())
    }

    /// Sets a key for as long as the lease lasts.
    pub async fn put(&self, key: &str, value: &str, lease: Lease) -> Result<(), Error> {
        self.ask::<IgnoredAny>("/v3/kv/put", &message::put(key, value, lease.0)).await.map(drop)
    }

    /// Sets a key for as long as the lease lasts, unless it exists.
    pub async fn create(&self, key: &str, value: &str, lease: Lease) -> Result<Creation, Error> {
        let done: Transaction = self.ask("/v3/kv/txn", &message::create(key, value, lease.0)).await?;
        Ok(if done.succeeded { Creation::Created } else { Creation::Held(done.into()) })
    }

    /// A new lease; etcd may make it longer than asked for, never shorter.
    pub async fn grant(&self, ttl: Duration) -> Result<Lease, Error> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let granted: Granted = self.ask("/v3/lease/grant", &message::grant(seconds.max(1))).await?;
        Ok(Lease(granted.id))
    }

    /// Starts the lease's time again. False when it has ended, with all its keys.
    pub async fn keep_alive(&self, lease: Lease) -> Result<bool, Error> {
        let kept: Streamed<Kept> = self.ask("/v3/lease/keepalive", &message::lease(lease.0)).await?;
        Ok(kept.result.is_some_and(|kept| kept.ttl > 0))
    }

    /// Ends the lease and removes its keys at once.
    pub async fn revoke(&self, lease: Lease) -> Result<(), Error> {
        self.ask::<IgnoredAny>("/v3/lease/revoke", &message::lease(lease.0)).await.map(drop)
    }

    /// Resolves when a key below the prefix changes after that revision (which may have happened already). An error means
    /// that nobody knows; the caller lists again.
    pub async fn changed(&self, prefix: &str, revision: i64) -> Result<(), Error> {
        let request = message::watch(prefix, revision + 1);
        let (endpoint, client) = self.client(self.first()).await?;
        let opening = client.call(Method::POST, "/v3/watch", Some(&request));
        let opened = tokio::time::timeout(ANSWER, opening).await.map_err(|_| Error::Deadline(endpoint.clone()))?;
        let response = opened.map_err(|source| self.failed(Error::Call { endpoint, source }))?;
        let mut lines = Lines::new(response.into_body());
        loop {
            let line = lines.next().await.map_err(Error::Watch)?;
            let line = line.ok_or_else(|| Error::Watch("the stream ended".into()))?;
            let watched: Streamed<Watched> = serde_json::from_slice(&line).map_err(|e| Error::Watch(e.into()))?;
            match watched.result {
                Some(watched) if watched.canceled => return Err(Error::Watch(watched.reason().into())),
                Some(watched) if watched.events.is_empty() => {}
                Some(_) => return Ok(()),
                None => return Err(Error::Watch(String::from_utf8_lossy(&line).trim().to_owned().into())),
            }
        }
    }

    /// Asks the members in turn, the first of them once more at the end: its connections may just have been stale.
    async fn ask<T: DeserializeOwned>(&self, path: &str, request: &Value) -> Result<T, Error> {
        let first = self.first();
        let mut last = Error::NoEndpoint;
        for attempt in 0..=self.endpoints.len() {
            match self.ask_one(first.wrapping_add(attempt), path, request).await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_of_one_member() => last = self.failed(error),
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    async fn ask_one<T: DeserializeOwned>(&self, index: usize, path: &str, body: &Value) -> Result<T, Error> {
        let (endpoint, client) = self.client(index).await?;
        match tokio::time::timeout(ANSWER, client.json(Method::POST, path, Some(body))).await {
            Ok(answer) => answer.map_err(|source| Error::Call { endpoint, source }),
            Err(_) => Err(Error::Deadline(endpoint)),
        }
    }

    fn first(&self) -> usize {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Has the next member asked first from now on.
    fn failed(&self, error: Error) -> Error {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = (current.0.wrapping_add(1), None);
        error
    }

    /// Connections to one member, which becomes the one that is asked first.
    async fn client(&self, index: usize) -> Result<(Entry, Client), Error> {
        let at = index.checked_rem(self.endpoints.len()).ok_or(Error::NoEndpoint)?;
        let endpoint = self.endpoints[at].clone();
        {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            match &*current {
                (same, Some(client)) if *same == index => return Ok((endpoint, client.clone())),
                _ => *current = (index, None),
            }
        }
        let address = resolve(endpoint.host(), endpoint.port()).await;
        let address = address.map_err(|source| Error::Resolve { host: endpoint.host().to_owned(), source })?;
        let client = match &self.tls {
            None => Client::tcp(address),
            Some(tls) => Client::tls(address, endpoint.host(), tls.clone())
                .map_err(|source| Error::Call { endpoint: endpoint.clone(), source })?,
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 == index {
            current.1 = Some(client.clone());
        }
        Ok((endpoint, client))
    }
}
