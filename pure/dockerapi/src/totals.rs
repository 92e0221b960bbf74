//! Adding up what nodes answer: what was pruned, and what disk is used. Whatever shape an engine's answer has, nothing
//! is lost of what can be added, and nothing else is touched.

use serde_json::{Map, Value, json};

/// Adds numbers, joins lists and goes into objects; a member that cannot be added stays as it was first.
pub fn add(sum: &mut Value, value: Value) {
    match (&mut *sum, value) {
        (Value::Null, value) => *sum = value,
        (Value::Array(all), Value::Array(more)) => all.extend(more),
        (Value::Number(a), Value::Number(b)) => {
            *sum = a.as_i64().unwrap_or(0).saturating_add(b.as_i64().unwrap_or(0)).into();
        }
        (Value::Object(all), Value::Object(more)) => {
            more.into_iter().for_each(|(key, value)| add(all.entry(key).or_insert(Value::Null), value));
        }
        _ => {}
    }
}

/// The disk usage's parts: what a client asks for, and the members that answer it.
const PARTS: [(&str, &[&str]); 4] = [
    ("container", &["Containers"]),
    ("image", &["Images", "LayersSize"]),
    ("volume", &["Volumes"]),
    ("build-cache", &["BuildCache", "BuilderSize"]),
];

/// The words of `asked` that are no part of the disk usage.
pub fn unknown_part<'a>(asked: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    asked.into_iter().find(|word| !PARTS.iter().any(|(part, _)| part == word))
}

/// Adds up the nodes' answers to `GET /system/df`. Names carry their node, as in lists. `asked` are the parts that the
/// client wants, all where it names none: engines before 1.42 always answer everything.
pub fn disk_usage<'a>(answers: impl IntoIterator<Item = (&'a str, Value)>, asked: &[&str]) -> Value {
    let mut total = json!({});
    for (node, mut answer) in answers {
        for name in members(&mut answer, "Containers").filter_map(|c| c.get_mut("Names")?.as_array_mut()).flatten() {
            if let Some(text) = name.as_str() {
                *name = format!("/{node}{text}").into();
            }
        }
        for volume in members(&mut answer, "Volumes") {
            qualify_volume(volume, node);
        }
        if answer.is_object() {
            add(&mut total, answer);
        }
    }
    for (part, members) in PARTS {
        if !asked.is_empty() && !asked.contains(&part) {
            blank(&mut total, members);
        }
    }
    total
}

/// Adds up the nodes' answers to a prune call.
pub fn pruned<'a>(answers: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let mut total = json!({});
    for (node, mut answer) in answers.into_iter().filter(|(_, answer)| answer.is_object()) {
        for volume in members(&mut answer, "VolumesDeleted") {
            if let Some(name) = volume.as_str() {
                *volume = format!("{node}/{name}").into();
            }
        }
        add(&mut total, answer);
    }
    total
}

fn members<'a>(answer: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    answer.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

fn qualify_volume(volume: &mut Value, node: &str) {
    let local = volume["Driver"].as_str().unwrap_or("local") == "local";
    let name = volume["Name"].as_str().filter(|_| local).map(|name| format!("{node}/{name}"));
    if let (Some(name), Some(object)) = (name, volume.as_object_mut()) {
        object.insert("Name".into(), name.into());
    }
}

/// Leaves a member's shape and takes what is in it, as engines answer what they were not asked for.
fn blank(total: &mut Value, names: &[&str]) {
    let Some(total): Option<&mut Map<String, Value>> = total.as_object_mut() else { return };
    for (_, value) in total.iter_mut().filter(|(name, _)| names.contains(&name.as_str())) {
        *value = if value.is_number() { 0.into() } else { Value::Null };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_add_up_under_their_nodes_names() {
        let answer = || {
            json!({"LayersSize": 10, "Images": [{"Id": "i"}], "Containers": [{"Names": ["/web"]}], "BuilderSize": 1,
                   "Volumes": [{"Name": "data", "Driver": "local"}, {"Name": "far", "Driver": "nfs"}], "BuildCache": null})
        };
        let total = disk_usage([("n1", answer()), ("n2", json!("odd")), ("n3", answer())], &[]);
        assert_eq!(
            (&total["LayersSize"], &total["BuilderSize"], &total["BuildCache"]),
            (&json!(20), &json!(2), &Value::Null)
        );
        assert_eq!(total["Containers"], json!([{"Names": ["/n1/web"]}, {"Names": ["/n3/web"]}]));
        let names: Vec<&Value> = total["Volumes"].as_array().unwrap().iter().map(|v| &v["Name"]).collect();
        assert_eq!(names, ["n1/data", "far", "n3/data", "far"]);
    }

    #[test]
    fn only_what_was_asked_for_is_answered() {
        let answer =
            json!({"LayersSize": 10, "Images": [{}], "Containers": [{}], "BuildCache": [{}], "BuilderSize": 3});
        let total = disk_usage([("n1", answer)], &["container"]);
        assert_eq!(
            total,
            json!({"LayersSize": 0, "Images": null, "Containers": [{}], "BuildCache": null, "BuilderSize": 0})
        );
        assert_eq!(unknown_part(["image", "build-cache"]), None);
        assert_eq!(unknown_part(["image", "cake"]), Some("cake"));
    }

    #[test]
    fn prunes_add_up() {
        let volumes = pruned([
            ("n1", json!({"VolumesDeleted": ["a"], "SpaceReclaimed": 1})),
            ("n2", json!({"VolumesDeleted": null, "SpaceReclaimed": 2})),
            ("n3", Value::Null),
        ]);
        assert_eq!(volumes, json!({"VolumesDeleted": ["n1/a"], "SpaceReclaimed": 3}));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "[a-z]{0,3}".prop_map(Value::from),
        ];
        let key =
            prop::sample::select(vec!["Containers", "Names", "Volumes", "Name", "Driver", "Images", "LayersSize", "x"]);
        leaf.prop_recursive(4, 32, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key.clone(), inner, 0..4).prop_map(|map| map
                    .into_iter()
                    .map(|(k, v)| (k.to_owned(), v))
                    .collect::<Map<_, _>>()
                    .into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_shape_makes_it_panic(answers in prop::collection::vec(any_json(), 0..4)) {
            disk_usage(answers.iter().map(|a| ("n", a.clone())), &["image"]);
            pruned(answers.into_iter().map(|a| ("n", a)));
        }
    }
}
