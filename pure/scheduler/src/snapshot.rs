//! What the scheduler is told: the nodes with what is on them, and what is to run.

use crate::{expression::Expression, port::Binding};
use osier_model::{Bytes, Cpus};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, OnceLock},
};

/// What one container takes of its node. Stopped containers keep their reservation, because they may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Cores reserved.
    pub cpus: Cpus,
    /// Memory reserved.
    pub memory: Bytes,
    /// How many containers this is.
    pub containers: usize,
}

impl Load {
    /// The load of one container with these reservations.
    pub fn one(cpus: Cpus, memory: Bytes) -> Self {
        Self { cpus, memory, containers: 1 }
    }
}

impl std::ops::Add for Load {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            cpus: Cpus(self.cpus.0.saturating_add(other.cpus.0)),
            memory: Bytes(self.memory.0.saturating_add(other.memory.0)),
            containers: self.containers + other.containers,
        }
    }
}

impl std::iter::Sum for Load {
    fn sum<I: Iterator<Item = Self>>(loads: I) -> Self {
        loads.fold(Self::default(), std::ops::Add::add)
    }
}

/// A container that is on a node, running or not, or on its way there.
pub trait Resident: Send + Sync {
    /// Its full id; empty while it has none.
    fn id(&self) -> &str;
    /// Its name; empty where it will get one from its engine.
    fn name(&self) -> &str;
    /// Its labels.
    fn labels(&self) -> &BTreeMap<String, String>;
    /// The node's ports that it takes.
    fn bindings(&self) -> &[Binding];
    /// What it takes of the node.
    fn load(&self) -> Load;
}

/// The containers of one node, with what every decision asks of them added up once.
#[derive(Clone, Default)]
pub struct Census {
    members: Vec<Arc<dyn Resident>>,
    load: Load,
    ports: Vec<(Binding, Arc<dyn Resident>)>,
    /// The members' ids and names, apart because ids are long and hardly a wish is about them.
    ids: Words,
    names: Words,
    /// The different values that the members give to each label, once somebody asked for one.
    labels: OnceLock<BTreeMap<String, Values>>,
}

/// Many words in one piece, because a decision may look at tens of thousands of them.
#[derive(Clone, Default)]
struct Words {
    text: String,
    /// Where each word ends.
    ends: Vec<usize>,
    /// Whether anything in them is no hex digit.
    is_not_hex: bool,
}

impl Words {
    fn push(&mut self, word: &str) {
        self.is_not_hex |= !is_hex(word);
        self.text.push_str(word);
        self.ends.push(self.text.len());
    }

    /// All of them, where any may meet the wish.
    fn for_wish(&self, wish: &Expression) -> impl Iterator<Item = &str> {
        let may_match = (self.is_not_hex || !wish.is_beyond_hex()) && wish.may_match_within(&self.text);
        let ends = if may_match { self.ends.as_slice() } else { &[] };
        let begins = std::iter::once(&0).chain(ends);
        begins.zip(ends).map(|(begin, end)| &self.text[*begin..*end])
    }
}

/// Whether there are only hex digits in a word, as in ids.
pub(crate) fn is_hex(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What containers say to one label.
#[derive(Clone, Default)]
struct Values {
    different: BTreeSet<String>,
    /// How many have the label at all.
    count: usize,
}

/// Length of the short ids that Docker prints.
const SHORT_ID: usize = 12;

impl Census {
    /// Counts one container more.
    pub fn add(&mut self, member: Arc<dyn Resident>) {
        self.load = self.load + member.load();
        self.ports.extend(member.bindings().iter().map(|b| (b.clone(), member.clone())));
        self.labels = OnceLock::new();
        self.ids.push(member.id());
        self.names.push(member.name());
        self.members.push(member);
    }

    /// Every word that means one of the containers, their ids, whole and short, and their names, where any of them may meet
    /// the wish.
    pub(crate) fn words_for(&self, wish: &Expression) -> impl Iterator<Item = &str> {
        let ids = self.ids.for_wish(wish).flat_map(|id| [id, id.get(..SHORT_ID).unwrap_or(id)]);
        self.names.for_wish(wish).chain(ids)
    }

    /// The different values that the containers give to a label; those without it give it the empty one.
    pub(crate) fn values(&self, label: &str) -> impl Iterator<Item = &str> {
        let values = self.labels.get_or_init(|| self.index()).get(label);
        let given = values.into_iter().flat_map(|v| &v.different).map(String::as_str);
        let lacking = values.map_or(0, |v| v.count) < self.members.len();
        given.chain(lacking.then_some(""))
    }

    fn index(&self) -> BTreeMap<String, Values> {
        let mut labels: BTreeMap<String, Values> = BTreeMap::new();
        for (label, value) in self.members.iter().flat_map(|m| m.labels()) {
            if !labels.contains_key(label) {
                labels.insert(label.clone(), Values::default());
            }
            let Some(values) = labels.get_mut(label) else { continue };
            values.count += 1;
            if !values.different.contains(value) {
                values.different.insert(value.clone());
            }
        }
        labels
    }

    /// What they take together.
    pub fn load(&self) -> Load {
        self.load
    }

    /// The container that takes a port which this binding needs.
    pub(crate) fn holder(&self, wanted: &Binding) -> Option<&dyn Resident> {
        self.ports.iter().find(|(taken, _)| taken.clashes(wanted)).map(|(_, holder)| holder.as_ref())
    }
}

impl FromIterator<Arc<dyn Resident>> for Census {
    fn from_iter<I: IntoIterator<Item = Arc<dyn Resident>>>(members: I) -> Self {
        let mut census = Self::default();
        members.into_iter().for_each(|member| census.add(member));
        census
    }
}

impl fmt::Debug for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Census").field("load", &self.load).finish_non_exhaustive()
    }
}

/// One node at the moment of the decision.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    /// Its name, unique in the cluster.
    pub name: &'a str,
    /// Its engine's id.
    pub id: &'a str,
    /// Its engine's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// 0 (unusable) to 100 (no recent failure).
    pub health: u8,
    /// Why it takes no new containers, if it does not.
    pub closed: Option<&'a str>,
    /// Cores that may be reserved.
    pub cpus: Cpus,
    /// Memory that may be reserved.
    pub memory: Bytes,
    /// Its containers.
    pub census: &'a Census,
    /// Containers whose creation is under way.
    pub pending: &'a Census,
    /// Its images, by every word that names one: ids, references, repositories, digests.
    pub images: &'a [String],
}

impl Node<'_> {
    /// What its containers take, those included whose creation is under way.
    pub fn load(&self) -> Load {
        self.census.load() + self.pending.load()
    }
}

/// What the user wishes about the place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes {
    /// About containers and images that are, or are not, on the node.
    pub affinities: Vec<Expression>,
    /// About the node itself.
    pub constraints: Vec<Expression>,
    /// The names of the only nodes that come into question, with `|` between them.
    pub whitelists: Vec<Expression>,
}

/// What is to run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// Cores to reserve; 0 for none.
    pub cpus: Cpus,
    /// Memory to reserve; 0 for none.
    pub memory: Bytes,
    /// The node's ports that it takes.
    pub bindings: Vec<Binding>,
    /// Whether it takes them because it lives in the node's own network.
    pub host_network: bool,
    /// The containers whose namespaces or volumes it shares.
    pub dependencies: Vec<Tie>,
    /// What the user wishes.
    pub wishes: Wishes,
    /// Everything else that ties it to some nodes; no configuration of filters lets go of it.
    pub ties: Vec<Tie>,
}

/// A condition that only these nodes meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tie {
    /// The condition in the user's terms, such as `network==node-1/web`.
    pub condition: String,
    /// The names of the nodes that meet it.
    pub nodes: BTreeSet<Arc<str>>,
}
