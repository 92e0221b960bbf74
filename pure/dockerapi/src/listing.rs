//! `GET /containers/json`: which containers a call asks for, in which order.

use crate::{
    ancestry::descendants,
    filters::{Filters, FiltersError, Pattern},
    image::Reference,
    names::{Candidate, Resolution, resolve},
    query::Query,
    row::{Port, Row},
    state::RunState,
};
use serde_json::Value;
use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeSet, BinaryHeap},
};

/// A container as it stands in the cache.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// Its list row.
    pub row: &'a Row,
    /// Its state, where it was inspected.
    pub state: Option<&'a RunState>,
    /// Its node.
    pub node: &'a str,
    /// Whether its engine answers.
    pub healthy: bool,
    /// The images on its node that the filter `ancestor` means (see [`ListQuery::family`]).
    pub family: &'a BTreeSet<String>,
}

/// What one list call asks for.
#[derive(Debug)]
pub struct ListQuery {
    all: bool,
    limit: usize,
    filters: Filters,
    names: Vec<Pattern>,
    /// Those of `names` that say a node too.
    qualified: Vec<Pattern>,
    ids: Vec<Pattern>,
    before: Option<i64>,
    since: Option<i64>,
    /// Words for the containers of `before` and `since`.
    bounds: [Option<String>; 2],
    /// Whether the rows are to carry the sizes of the containers' files.
    pub size: bool,
}

/// The list cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The filters are wrong.
    #[error(transparent)]
    Filters(#[from] FiltersError),
    /// `before` or `since` names a container that is not there.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// `before` or `since` may mean several containers.
    #[error("'{word}' is ambiguous, it may be {}", candidates.join(" or "))]
    Ambiguous {
        /// The word.
        word: String,
        /// What it may mean.
        candidates: Vec<String>,
    },
    /// The limit is not a number.
    #[error("invalid limit '{0}'")]
    Limit(String),
}

/// The engine's filters, and two of ours: `node`, and `label!` for labels that must not be there.
const KNOWN: [&str; 17] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "node",
    "publish",
    "since",
    "status",
    "volume",
];
const HEALTHS: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];
const STATES: [&str; 7] = ["created", "dead", "exited", "paused", "removing", "restarting", "running"];

impl ListQuery {
    /// Reads the call's parameters.
    pub fn parse(query: &Query) -> Result<Self, ListError> {
        let filters = Filters::parse(query.get("filters"))?.only(&KNOWN)?;
        let wrong = |key: &str, value: &str| FiltersError::Value { key: key.to_owned(), value: value.to_owned() };
        if let Some(state) = filters.get("status").find(|s| !STATES.contains(s)) {
            return Err(wrong("status", state).into());
        }
        if let Some(health) = filters.get("health").find(|h| !HEALTHS.contains(h)) {
            return Err(wrong("health", health).into());
        }
        if let Some(code) = filters.get("exited").find(|c| c.parse::<i64>().is_err()) {
            return Err(wrong("exited", code).into());
        }
        for key in ["publish", "expose"] {
            if let Some(port) = filters.get(key).find(|p| PortFilter::parse(p).is_none()) {
                return Err(wrong(key, port).into());
            }
        }
        filters.boolean("is-task")?;
        let limit = query.get("limit").filter(|l| !l.is_empty()).unwrap_or("0");
        let limit: i64 = limit.parse().map_err(|_| ListError::Limit(limit.to_owned()))?;
        // Old clients name the bounds beside the filters.
        let bound = |key: &str| {
            let old = query.get(key).filter(|word| !word.is_empty());
            filters.get(key).next().or(old).map(str::to_owned)
        };
        let bounds = [bound("before"), bound("since")];
        let node_too = |name: &&str| name.trim_start_matches(['^', '/']).contains('/');
        Ok(Self {
            // A filter on the state wants to see that state, as the engine has it; so did classic Swarm's `before`.
            all: query.flag("all") || filters.has("status") || query.get("before").is_some_and(|word| !word.is_empty()),
            limit: usize::try_from(limit).unwrap_or(0),
            names: filters.get("name").map(Pattern::new).collect(),
            qualified: filters.get("name").filter(node_too).map(Pattern::new).collect(),
            bounds,
            ids: filters.get("id").map(Pattern::new).collect(),
            before: None,
            since: None,
            size: query.flag("size"),
            filters,
        })
    }

    /// Looks up the containers that the call names as bounds, among all there are.
    pub fn bounded<'a>(mut self, all: impl Iterator<Item = Listed<'a>> + Clone) -> Result<Self, ListError> {
        let created = |word: Option<&String>| {
            let Some(word) = word else { return Ok(None) };
            let candidates =
                all.clone().map(|c| Candidate { key: c.row.created, node: c.node, id: &c.row.id, names: &c.row.names });
            match resolve(word, candidates) {
                Resolution::Found(created) => Ok(Some(created)),
                Resolution::Missing => Err(ListError::NoSuchContainer(word.clone())),
                Resolution::Ambiguous(candidates) => Err(ListError::Ambiguous { word: word.clone(), candidates }),
            }
        };
        let [before, since] = &self.bounds;
        (self.before, self.since) = (created(before.as_ref())?, created(since.as_ref())?);
        Ok(self)
    }

    /// The images among one node's list rows that the filter `ancestor` means, with those made from them.
    pub fn family<R: AsRef<Value>>(&self, images: &[R]) -> BTreeSet<String> {
        self.filters.get("ancestor").flat_map(|word| descendants(word, images)).collect()
    }

    /// The containers that the call asks for, newest first, found as they are taken. Each of `lists` is in the order of
    /// [`newest_first`]; of containers made in the same second the earlier list's come first.
    pub fn select<'a, I: Iterator<Item = Listed<'a>>>(&self, lists: Vec<I>) -> impl Iterator<Item = Listed<'a>> {
        let mut merge = Merge { query: self, lists, heads: Vec::new(), heap: BinaryHeap::new() };
        merge.heads.resize(merge.lists.len(), None);
        (0..merge.lists.len()).for_each(|list| merge.advance(list));
        merge.take(if self.limit > 0 { self.limit } else { usize::MAX })
    }

    fn visible(&self, c: &Listed<'_>) -> bool {
        let running = || matches!(c.row.state.as_str(), "running" | "paused" | "restarting");
        self.all || self.limit > 0 || (c.healthy && running())
    }

    fn passes(&self, c: &Listed<'_>) -> bool {
        let (row, f) = (c.row, &self.filters);
        let ended = |s: &&RunState| matches!(s.status.as_str(), "exited" | "dead" | "removing") && s.finished.is_some();
        let exit = || c.state.filter(ended).map(|s| s.exit_code);
        let health = || c.state.and_then(|s| s.health.as_deref()).unwrap_or("none");
        let network = |word: &str| {
            let here = word.split_once('/').filter(|(node, _)| *node == c.node).map(|(_, name)| name);
            row.networks.iter().any(|(name, id)| name == word || here == Some(name) || id.starts_with(word))
        };
        let task = || row.labels.contains_key("com.docker.swarm.task");
        let names = || row.names.iter().map(String::as_str);
        let bounds = self.before.is_none_or(|t| row.created < t) && self.since.is_none_or(|t| row.created > t);
        bounds
            && (self.names.is_empty()
                || self.names.iter().any(|p| names().any(|n| p.matches(n) || p.matches(&format!("/{n}"))))
                || self.qualified.iter().any(|p| names().any(|n| p.matches(&format!("/{}/{n}", c.node)))))
            && (self.ids.is_empty() || self.ids.iter().any(|p| p.matches(&row.id)))
            && f.labels("label", |name| row.labels.get(name).map(String::as_str))
            && f.any("status", |s| s == row.state)
            && f.any("exited", |code| code.parse().ok() == exit())
            && f.any("health", |h| h == health())
            && f.any("node", |n| n == c.node)
            && f.any("volume", |v| row.mounts.iter().any(|m| m == v))
            && f.any("network", network)
            && f.any("is-task", |v| matches!(v, "1" | "true") == task())
            && f.any("ancestor", |image| {
                c.family.contains(&row.image_id) || Reference::parse(image).is_ancestor(&row.image, &row.image_id)
            })
            && f.any("publish", |p| {
                PortFilter::parse(p).is_some_and(|p| row.ports.iter().any(|r| p.holds(r, r.public)))
            })
            && f.any("expose", |p| {
                PortFilter::parse(p).is_some_and(|p| row.ports.iter().any(|r| p.holds(r, r.private)))
            })
    }
}

/// The order of a list: by creation, the newest first, then by name.
pub fn newest_first(a: &Row, b: &Row) -> Ordering {
    b.created.cmp(&a.created).then_with(|| a.name().cmp(b.name()))
}

/// Ordered lists as one: the heap holds when the next container of each was made.
struct Merge<'q, 'a, I> {
    query: &'q ListQuery,
    lists: Vec<I>,
    heads: Vec<Option<Listed<'a>>>,
    heap: BinaryHeap<(i64, Reverse<usize>)>,
}

impl<'a, I: Iterator<Item = Listed<'a>>> Merge<'_, 'a, I> {
    /// Finds the next container of this list that is asked for.
    fn advance(&mut self, list: usize) {
        let query = self.query;
        self.heads[list] = self.lists[list].find(|c| query.visible(c) && query.passes(c));
        if let Some(head) = self.heads[list] {
            self.heap.push((head.row.created, Reverse(list)));
        }
    }
}

impl<'a, I: Iterator<Item = Listed<'a>>> Iterator for Merge<'_, 'a, I> {
    type Item = Listed<'a>;

    fn next(&mut self) -> Option<Listed<'a>> {
        let (_, Reverse(list)) = self.heap.pop()?;
        let head = self.heads[list];
        self.advance(list);
        head
    }
}

/// A port or a range of ports of one protocol: `80`, `80/udp`, `8000-8080/tcp`.
struct PortFilter<'a> {
    first: u16,
    last: u16,
    protocol: &'a str,
}

impl<'a> PortFilter<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then_some(Self { first, last, protocol })
    }

    fn holds(&self, port: &Port, number: u16) -> bool {
        number != 0 && (self.first..=self.last).contains(&number) && port.protocol == self.protocol
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Owner;
    use proptest::prelude::*;
    use serde_json::json;
    use time::Duration;

    fn row(id: &str, node: &str, created: i64, more: Value) -> Row {
        let mut row = json!({"Id": id, "Names": [format!("/{id}")], "Created": created, "State": "running"});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let owner = Owner { node: node.into(), ip: [10, 0, 0, 1].into(), cluster_networks: Default::default() };
        Row::read(row, &owner).unwrap()
    }

    fn list(query: &str) -> Result<String, ListError> {
        let rows = [
            row(
                "web",
                "node-1",
                10,
                json!({"Labels": {"tier": "web"}, "Image": "nginx:1", "Ports": [
                {"PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}]}),
            ),
            row("db", "node-10", 20, json!({"State": "exited", "Image": "sha256:77", "ImageID": "sha256:77aa"})),
            row("lost", "node-2", 30, json!({"Mounts": [{"Name": "data"}], "ImageID": "sha256:child"})),
            row(
                "new",
                "node-1",
                40,
                json!({"State": "created",
                "NetworkSettings": {"Networks": {"osier": {"NetworkID": "0123"}}}}),
            ),
        ];
        let inspect = json!({"State": {"Status": "exited", "ExitCode": 3, "FinishedAt": "2026-01-01T00:00:00Z"}});
        let exited = RunState::read(&inspect, Duration::ZERO);
        let family = BTreeSet::from(["sha256:child".to_owned()]);
        let listed = |of: &'static str| {
            let rows = rows.iter().zip(["node-1", "node-10", "node-2", "node-1"]).filter(move |(_, node)| *node == of);
            let mut rows: Vec<_> = rows.collect();
            rows.sort_by(|(a, _), (b, _)| newest_first(a, b));
            rows.into_iter().map(|(row, node)| Listed {
                row,
                state: (row.id == "db").then_some(&exited),
                node,
                healthy: node != "node-2",
                family: &family,
            })
        };
        let lists: Vec<_> = ["node-1", "node-10", "node-2"].map(listed).into();
        let query = ListQuery::parse(&Query::parse(Some(query)).unwrap())?;
        let query = query.bounded(lists.clone().into_iter().flatten())?;
        Ok(query.select(lists).map(|c| c.row.id.as_str()).collect::<Vec<_>>().join(" "))
    }

    fn filtered(filters: &str) -> Result<String, ListError> {
        let mut query = Query::default();
        query.set("all", "1");
        query.set("filters", filters);
        list(&query.to_string())
    }

    #[test]
    fn what_runs_on_a_healthy_node_is_shown_and_all_shows_the_rest() {
        assert_eq!(list("").unwrap(), "web");
        assert_eq!(list("all=1").unwrap(), "new lost db web");
        assert_eq!(list("limit=2").unwrap(), "new lost");
        assert_eq!(list("filters=%7B%22status%22%3A%5B%22exited%22%5D%7D").unwrap(), "db");
    }

    #[test]
    fn every_filter_filters() {
        for (filters, expected) in [
            (r#"{"name":["^w"]}"#, "web"),
            (r#"{"name":["^/web$","db"]}"#, "db web"),
            (r#"{"id":["e"]}"#, "new web"),
            (r#"{"label":["tier=web"]}"#, "web"),
            (r#"{"node":["node-1"]}"#, "new web"),
            (r#"{"exited":["3"]}"#, "db"),
            (r#"{"exited":["0"]}"#, ""),
            (r#"{"health":["none"],"status":["running"]}"#, "lost web"),
            (r#"{"volume":["data"]}"#, "lost"),
            (r#"{"network":["osier"]}"#, "new"),
            (r#"{"network":["012"]}"#, "new"),
            (r#"{"ancestor":["nginx:1"]}"#, "lost web"),
            (r#"{"ancestor":["77aa"]}"#, "lost db"),
            (r#"{"network":["node-1/osier"]}"#, "new"),
            (r#"{"network":["node-2/osier"]}"#, ""),
            (r#"{"name":["node-1/web"]}"#, "web"),
            (r#"{"name":["^/node-10/"]}"#, "db"),
            (r#"{"name":["node"]}"#, ""),
            (r#"{"isolation":["default"],"name":["web"]}"#, "web"),
            (r#"{"label!":["tier=web"],"node":["node-1"]}"#, "new"),
            (r#"{"publish":["8000-8080/tcp"]}"#, "web"),
            (r#"{"publish":["80"]}"#, ""),
            (r#"{"expose":["80"]}"#, "web"),
            (r#"{"before":["lost"]}"#, "db web"),
            (r#"{"since":["lost"]}"#, "new"),
            (r#"{"is-task":["false"],"name":["db"]}"#, "db"),
        ] {
            assert_eq!(filtered(filters).unwrap(), expected, "{filters}");
        }
    }

    #[test]
    fn wrong_filters_are_errors() {
        for filters in [
            r#"{"bogus":["1"]}"#,
            r#"{"status":["asleep"]}"#,
            r#"{"exited":["x"]}"#,
            r#"{"publish":["x"]}"#,
            r#"{"is-task":["x"]}"#,
            r#"{"before":["nobody"]}"#,
            r#"{"health":["x"]}"#,
            r#"{"publish":["80-70"]}"#,
            r#"{"annotation":["x"]}"#,
            "{",
        ] {
            assert!(filtered(filters).is_err(), "{filters}");
        }
        assert_eq!(list("limit=x"), Err(ListError::Limit("x".into())));
    }

    #[test]
    fn bounds_may_stand_beside_the_filters_as_old_clients_put_them() {
        assert_eq!(list("before=lost").unwrap(), "db web");
        assert_eq!(list("since=db&all=1").unwrap(), "new lost");
        assert_eq!(list("before=nobody"), Err(ListError::NoSuchContainer("nobody".into())));
        assert_eq!(list("before=&limit=-1").unwrap(), "web");
    }

    proptest! {
        #[test]
        fn merging_ordered_lists_is_sorting_all(
            lists in prop::collection::vec(prop::collection::vec(0..4_i64, 0..6), 0..4), limit in 0..9_usize,
        ) {
            let nodes = ["a", "b", "c"];
            let mut id = 0;
            let mut rows: Vec<Vec<Row>> = Vec::new();
            for (list, node) in lists.iter().zip(nodes) {
                let made = list.iter().map(|created| {
                    id += 1;
                    row(&format!("{id:03}"), node, *created, json!({}))
                });
                let mut made: Vec<Row> = made.collect();
                made.sort_by(newest_first);
                rows.push(made);
            }
            let family = BTreeSet::new();
            let family = &family;
            let lists: Vec<_> = rows.iter().zip(nodes).map(|(rows, node)| {
                rows.iter().map(move |row| Listed { row, state: None, node, healthy: true, family })
            }).collect();
            let query = ListQuery::parse(&Query::parse(Some(&format!("all=1&limit={limit}"))).unwrap()).unwrap();
            let got: Vec<&str> = query.select(lists).map(|c| c.row.id.as_str()).collect();
            let mut expected: Vec<(&str, &Row)> = Vec::new();
            for (rows, node) in rows.iter().zip(nodes) {
                expected.extend(rows.iter().map(|row| (node, row)));
            }
            expected.sort_by(|(n, a), (m, b)| b.created.cmp(&a.created).then(n.cmp(m)).then(a.name().cmp(b.name())));
            let expected: Vec<&str> = expected.iter().map(|(_, row)| row.id.as_str()).collect();
            let end = if limit == 0 { expected.len() } else { limit.min(expected.len()) };
            prop_assert_eq!(got, &expected[..end]);
        }
    }
}
