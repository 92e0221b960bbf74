//! The token service: the four calls of the discovery protocol that Docker Hub once hosted. A token names a cluster and
//! authorises nothing.
//!
//! `POST /v1/clusters` makes a token; `POST /v1/clusters/TOKEN?ttl=SECONDS` with `host:port` as its body registers an
//! engine for that time; `GET` lists a cluster as a JSON array; `DELETE` forgets it, or only one engine where its address follows
//! (a call of our own). The cluster's own token lists its
//! members, which nobody has to register.

use crate::refusal::Refusal;
use http::{Method, Request, Response, StatusCode};
use osier_discovery::{Entry, EntryError};
use osier_dockerapi::query::Query;
use osier_engine::{Body, body::collect, empty_response, full, json_response};
use osier_model::Token;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long an entry lasts whose registration does not say (what `join` sends).
const DEFAULT_TTL: Duration = Duration::from_secs(180);
/// The longest an entry may last.
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);
/// Entries in all, so that nobody can fill the manager's memory.
const ENTRIES: usize = 100_000;
/// The longest address: a host name and a port.
const ADDRESS: usize = 300;

/// The registered engines of all tokens.
#[derive(Default)]
pub struct Tokens {
    own: Option<Token>,
    /// The cluster's own members, `name:port`.
    members: Mutex<BTreeSet<String>>,
    entries: Mutex<BTreeMap<(Token, String), Instant>>,
}

impl Tokens {
    /// A service whose own cluster has this token, if it has one.
    pub fn new(own: Option<Token>) -> Self {
        Self { own, ..Self::default() }
    }

    /// Says who the members of the own cluster are, as `name:port`.
    pub fn set_members(&self, members: BTreeSet<String>) {
        *self.members.lock().unwrap_or_else(PoisonError::into_inner) = members;
    }

    pub(crate) async fn answer(
        &self,
        rest: &[&str],
        query: &Query,
        request: Request<Body>,
    ) -> Result<Response<Body>, Refusal> {
        let now = Instant::now();
        let token = |text: &str| text.parse::<Token>().map_err(|e| Refusal::bad_request(e.to_string()));
        match (request.method(), rest) {
            (&Method::POST, []) => Ok(Response::new(full(Token::from_random(rand::random()).to_string()))),
            (&Method::POST, [text]) => {
                let (token, ttl) = (token(text)?, ttl(query)?);
                let body = collect(request.into_body(), ADDRESS).await;
                let body = body.map_err(|e| Refusal::bad_request(format!("read the address: {e}")))?;
                self.register(token, address(&String::from_utf8_lossy(&body))?, now, ttl)?;
                Ok(empty_response(StatusCode::OK))
            }
            (&Method::GET, [text]) => Ok(json_response(StatusCode::OK, &self.list(&token(text)?, now))),
            (&Method::DELETE, [text]) => {
                self.forget(&token(text)?, None);
                Ok(empty_response(StatusCode::OK))
            }
            (&Method::DELETE, [text, engine]) => {
                self.forget(&token(text)?, Some(&address(engine)?));
                Ok(empty_response(StatusCode::OK))
            }
            _ => Err(Refusal::not_found("page not found")),
        }
    }

    fn register(&self, token: Token, address: String, now: Instant, ttl: Duration) -> Result<(), Refusal> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= ENTRIES {
            entries.retain(|_, end| *end > now);
        }
        if entries.len() >= ENTRIES {
            return Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "too many engines are registered"));
        }
        entries.insert((token, address), now + ttl);
        Ok(())
    }

    pub(crate) fn list(&self, token: &Token, now: Instant) -> BTreeSet<String> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, end| *end > now);
        let mut list: BTreeSet<String> =
            entries.keys().filter(|(t, _)| t == token).map(|(_, address)| address.clone()).collect();
        if self.own.as_ref() == Some(token) {
            list.extend(self.members.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        }
        list
    }

    /// Forgets one engine of a token, or all.
    fn forget(&self, token: &Token, engine: Option<&String>) {
        let stays = |(t, address): &(Token, String)| t != token || engine.is_some_and(|engine| engine != address);
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| stays(key));
    }
}

/// An engine's address as it is kept.
fn address(text: &str) -> Result<String, Refusal> {
    let entry: Entry = text.trim().parse().map_err(|e: EntryError| Refusal::bad_request(e.to_string()))?;
    Ok(entry.to_string())
}

fn ttl(query: &Query) -> Result<Duration, Refusal> {
    let Some(text) = query.get("ttl").filter(|t| !t.is_empty()) else { return Ok(DEFAULT_TTL) };
    let seconds: u64 =
        text.parse().map_err(|_| Refusal::bad_request(format!("'{text}' is not a number of seconds")))?;
    Ok(Duration::from_secs(seconds).min(MAX_TTL))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(digit: &str) -> Token {
        digit.repeat(32).parse().unwrap()
    }

    #[test]
    fn entries_last_as_long_as_they_were_registered_for() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        tokens.register(token("a"), "n1:2375".into(), now, Duration::from_secs(10)).unwrap();
        tokens.register(token("a"), "n2:2375".into(), now, Duration::from_secs(30)).unwrap();
        tokens.register(token("b"), "n3:2375".into(), now, Duration::from_secs(30)).unwrap();
        let list = |at: u64| tokens.list(&token("a"), now + Duration::from_secs(at)).into_iter().collect::<Vec<_>>();
        assert_eq!(list(5), ["n1:2375", "n2:2375"]);
        assert_eq!(list(20), ["n2:2375"]);
        tokens.forget(&token("a"), Some(&"n1:2375".into()));
        assert_eq!(list(5), ["n2:2375"]);
        tokens.forget(&token("a"), None);
        assert!(list(20).is_empty());
    }

    #[tokio::test]
    async fn the_protocol_is_the_one_that_join_and_list_speak() {
        let tokens = Tokens::new(Some(token("c")));
        tokens.set_members(["master:12375".to_owned()].into());
        let ask = async |method: &str, rest: &[&str], query: &str, body: &'static str| {
            let request = Request::builder().method(method).uri("/").body(full(body)).unwrap();
            let query = Query::parse(Some(query)).unwrap();
            let response = tokens.answer(rest, &query, request).await?;
            Ok::<_, Refusal>(String::from_utf8(collect(response.into_body(), 1000).await.unwrap().to_vec()).unwrap())
        };
        let made = ask("POST", &[], "", "").await.unwrap();
        assert!(made.parse::<Token>().is_ok(), "{made}");
        ask("POST", &[&made], "ttl=60", "node-1:2375").await.unwrap();
        assert_eq!(ask("GET", &[&made], "", "").await.unwrap(), r#"["node-1:2375"]"#);
        assert_eq!(ask("GET", &[token("c").as_str()], "", "").await.unwrap(), r#"["master:12375"]"#);
        ask("POST", &[&made], "", "[::1]:2375").await.unwrap();
        ask("DELETE", &[&made, "node-1:2375"], "", "").await.unwrap();
        assert_eq!(ask("GET", &[&made], "", "").await.unwrap(), r#"["[::1]:2375"]"#);
        assert!(ask("DELETE", &[&made, "x"], "", "").await.is_err());
        ask("DELETE", &[&made], "", "").await.unwrap();
        assert_eq!(ask("GET", &[&made], "", "").await.unwrap(), "[]");
        for (rest, query, body) in [(&made, "ttl=x", "n:1"), (&made, "", "nonsense"), (&"x".to_owned(), "", "n:1")] {
            assert!(ask("POST", &[rest], query, body).await.is_err(), "{rest} {query} {body}");
        }
    }
}
