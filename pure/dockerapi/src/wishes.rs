//! Where the user's wishes about the place stand in a request: as entries of the environment, as build arguments, and in
//! labels that classic Swarm's tools read (a JSON array of expressions each), where they are kept with the container.

use osier_scheduler::{Expression, ExpressionError, Wishes};
use serde_json::{Value, json};

/// The label with a container's id in the cluster, which it keeps when it is made anew elsewhere.
pub const ID_LABEL: &str = "com.docker.swarm.id";

const KINDS: [Kind; 4] = [Kind::Affinity, Kind::Constraint, Kind::Whitelist, Kind::Reschedule];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Affinity,
    Constraint,
    Whitelist,
    Reschedule,
}

impl Kind {
    /// The word before the colon.
    fn word(self) -> &'static str {
        match self {
            Self::Affinity => "affinity",
            Self::Constraint => "constraint",
            Self::Whitelist => "whitelist",
            Self::Reschedule => "reschedule",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Affinity => "com.docker.swarm.affinities",
            Self::Constraint => "com.docker.swarm.constraints",
            Self::Whitelist => "com.docker.swarm.whitelists",
            Self::Reschedule => "com.docker.swarm.reschedule-policies",
        }
    }

    /// Splits an entry such as `constraint:zone==eu`.
    fn split(entry: &str) -> Option<(Self, &str)> {
        let (word, text) = entry.split_once(':')?;
        let kind = KINDS.into_iter().find(|k| k.word() == word)?;
        // Tools that take an entry without `=` for a variable's name drop it, so the policy may be written with one.
        let policy = if kind == Self::Reschedule { text.strip_prefix("policy=") } else { None };
        Some((kind, policy.unwrap_or(text)))
    }
}

/// What is wished cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// An expression is none. (The text is classic Swarm's.)
    #[error("error from {kind} filter: {error}")]
    Expression {
        /// `affinity`, `constraint` or `whitelist`.
        kind: &'static str,
        /// What is wrong with it.
        error: ExpressionError,
    },
    /// There is no such policy.
    #[error("invalid reschedule policy: {0}")]
    Policy(String),
    /// There is more than one.
    #[error("too many reschedule policies")]
    Policies,
}

/// The expressions of one request, as text, by kind.
#[derive(Default)]
struct Texts([Vec<String>; 4]);

impl Texts {
    fn of(&mut self, kind: Kind) -> &mut Vec<String> {
        &mut self.0[kind as usize]
    }

    fn read(mut self) -> Result<Wishes, WishError> {
        match std::mem::take(self.of(Kind::Reschedule)).as_slice() {
            [] => {}
            [policy] if matches!(policy.as_str(), "off" | "on-node-failure") => {}
            [policy] => return Err(WishError::Policy(policy.clone())),
            _ => return Err(WishError::Policies),
        }
        let mut parse = |kind: Kind| {
            let read = |text: &String| {
                text.parse::<Expression>().map_err(|error| WishError::Expression { kind: kind.word(), error })
            };
            self.of(kind).iter().map(read).collect::<Result<Vec<_>, _>>()
        };
        Ok(Wishes {
            affinities: parse(Kind::Affinity)?,
            constraints: parse(Kind::Constraint)?,
            whitelists: parse(Kind::Whitelist)?,
        })
    }
}

/// Reads the wishes of a create request. Those in its environment are moved from there to its labels.
pub fn take(body: &mut Value) -> Result<Wishes, WishError> {
    let mut texts = Texts::default();
    for kind in KINDS {
        // A label that is no list of texts wishes nothing, as in classic Swarm.
        let label = body["Labels"][kind.label()].as_str().unwrap_or_default();
        *texts.of(kind) = serde_json::from_str(label).unwrap_or_default();
    }
    let mut moved = Vec::new();
    if let Some(env) = body.get_mut("Env").and_then(Value::as_array_mut) {
        env.retain(|entry| match entry.as_str().and_then(Kind::split) {
            Some((kind, text)) => {
                texts.of(kind).push(text.to_owned());
                moved.push(kind);
                false
            }
            None => true,
        });
    }
    for kind in KINDS.into_iter().filter(|k| moved.contains(k)) {
        set_label(body, kind.label(), &json!(texts.of(kind)).to_string());
    }
    texts.read()
}

/// Reads the wishes of a volume's labels.
pub fn of_labels(labels: &Value) -> Result<Wishes, WishError> {
    take(&mut json!({ "Labels": labels }))
}

/// Reads wishes that are written as in an environment, such as those of a build's arguments.
pub fn of_entries<'a>(entries: impl Iterator<Item = &'a str>) -> Result<Wishes, WishError> {
    let mut texts = Texts::default();
    entries.filter_map(Kind::split).for_each(|(kind, text)| texts.of(kind).push(text.to_owned()));
    texts.read()
}

/// Gives a container this id in the cluster, unless it has one.
pub fn ensure_id(body: &mut Value, id: &str) {
    if body["Labels"][ID_LABEL].as_str().unwrap_or_default().is_empty() {
        set_label(body, ID_LABEL, id);
    }
}

fn set_label(body: &mut Value, label: &str, value: &str) {
    let Some(object) = body.as_object_mut() else { return };
    let labels = object.entry("Labels").or_insert(Value::Null);
    if labels.is_null() {
        *labels = json!({});
    }
    if let Some(labels) = labels.as_object_mut() {
        labels.insert(label.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wishes_move_from_the_environment_to_the_labels() {
        let mut body = json!({
            "Env": ["A=b", "constraint:zone==eu", "FOO=constraint:a==b", "affinity:container!=~db", "constraint:node==n*",
                    "whitelist:node==n1|n2", "reschedule:on-node-failure", "Constraint:x==y"],
            "Labels": {"com.docker.swarm.constraints": "[\"size==big\"]", "com.docker.swarm.affinities": "nonsense", "x": "y"},
        });
        let wishes = take(&mut body).unwrap();
        let texts = |list: &[Expression]| list.iter().map(Expression::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(texts(&wishes.constraints), "size==big zone==eu node==n*");
        assert_eq!(
            (texts(&wishes.affinities), texts(&wishes.whitelists)),
            ("container!=~db".into(), "node==n1|n2".into())
        );
        assert_eq!(body["Env"], json!(["A=b", "FOO=constraint:a==b", "Constraint:x==y"]));
        assert_eq!(
            body["Labels"],
            json!({
                "com.docker.swarm.constraints": "[\"size==big\",\"zone==eu\",\"node==n*\"]",
                "com.docker.swarm.affinities": "[\"container!=~db\"]", "x": "y",
                "com.docker.swarm.whitelists": "[\"node==n1|n2\"]",
                "com.docker.swarm.reschedule-policies": "[\"on-node-failure\"]",
            })
        );
        assert_eq!(take(&mut body).unwrap(), wishes, "the labels alone say the same");
    }

    #[test]
    fn what_wishes_nothing_stays_as_it_is() {
        for body in [json!({"Env": null, "Labels": null}), json!({"Image": "x"}), json!([]), json!({"Env": [1, "a"]})] {
            let mut taken = body.clone();
            assert_eq!((take(&mut taken), taken), (Ok(Wishes::default()), body));
        }
    }

    #[test]
    fn mistakes_are_told_in_classic_swarms_words() {
        for (entry, error) in [
            ("constraint:r==us", "error from constraint filter: Key 'r' is invalid"),
            ("affinity:container", "error from affinity filter: One of operator ==, != is expected"),
            ("reschedule:always", "invalid reschedule policy: always"),
        ] {
            assert_eq!(take(&mut json!({ "Env": [entry] })).unwrap_err().to_string(), error);
        }
        let two = take(&mut json!({"Env": ["reschedule:off", "reschedule:policy=on-node-failure"]}));
        assert_eq!(two.unwrap_err().to_string(), "too many reschedule policies");
        assert!(take(&mut json!({"Env": ["reschedule:policy=on-node-failure"]})).is_ok());
        let wishes = of_entries(["constraint:node==n1", "A=b", "affinity:image!=x"].into_iter()).unwrap();
        assert_eq!(
            (wishes.constraints[0].to_string(), wishes.affinities[0].to_string()),
            ("node==n1".into(), "image!=x".into())
        );
    }

    #[test]
    fn every_container_has_an_id_in_the_cluster() {
        let mut body = json!({"Labels": null});
        ensure_id(&mut body, "abc");
        ensure_id(&mut body, "def");
        assert_eq!(body["Labels"][ID_LABEL], "abc");
        let mut odd = json!([]);
        ensure_id(&mut odd, "abc");
        assert_eq!(odd, json!([]));
    }

    proptest! {
        #[test]
        fn no_environment_makes_it_panic(
            entries in prop::collection::vec("(constraint|affinity|whitelist|reschedule)?:?.*", 0..4), label in ".*",
        ) {
            let mut body = json!({"Env": entries, "Labels": {"com.docker.swarm.constraints": label}});
            let _ = take(&mut body);
            prop_assert!(body["Env"].as_array().unwrap().iter().all(|e| Kind::split(e.as_str().unwrap()).is_none()));
        }
    }
}
