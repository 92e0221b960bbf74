//! What a request to build an image says about where it can be built, and which other requests belong to it.

use crate::query::Query;
use osier_model::{Bytes, Cpus};
use serde_json::{Map, Value};

/// What stands before the id of the build whose context a request brings.
const UPLOAD: &str = "upload-request:";
/// The build arguments that are meant for the scheduler, up to their colon.
const KEYWORDS: [&str; 4] = ["affinity", "constraint", "reschedule", "whitelist"];

/// A request to build, or to bring a build its context.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BuildRequest {
    /// The client's name for the build, by which it can be cancelled.
    pub id: Option<String>,
    /// The build that this request brings its context to; it is no build by itself then.
    pub upload_for: Option<String>,
    /// The session that the builder asks for files and credentials.
    pub session: Option<String>,
    /// What the image is to be called.
    pub tags: Vec<String>,
    /// The cores to reserve.
    pub cpus: Cpus,
    /// The memory to reserve.
    pub memory: Bytes,
    /// What the scheduler is told, such as `constraint:node==n1`.
    pub expressions: Vec<String>,
    /// The query without what the scheduler was told; absent where that is nothing.
    pub rest: Option<Query>,
}

impl BuildRequest {
    /// Reads the query of `POST /build`. What is malformed is left to the engine to refuse.
    pub fn read(query: &Query) -> Self {
        let text = |key: &str| query.get(key).filter(|v| !v.is_empty()).map(str::to_owned);
        let number = |key: &str| query.get(key).and_then(|v| v.parse::<u64>().ok()).unwrap_or_default();
        let (quota, period) = (number("cpuquota"), number("cpuperiod"));
        let period = if period == 0 { 100_000 } else { period };
        let nanos = u128::from(quota) * 1_000_000_000 / u128::from(period);
        let id = text("buildid");
        let upload_for = id.as_deref().and_then(|id| id.strip_prefix(UPLOAD)).map(str::to_owned);
        let mut request = Self {
            id: id.filter(|_| upload_for.is_none()),
            upload_for,
            session: text("session"),
            tags: query.all("t").filter(|t| !t.is_empty()).map(str::to_owned).collect(),
            cpus: Cpus(u64::try_from(nanos).unwrap_or(u64::MAX)),
            memory: Bytes(number("memory")),
            ..Self::default()
        };
        let arguments = query.get("buildargs").and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
        if let Some(mut arguments) = arguments {
            arguments.retain(|key, value| {
                let told = expression(key, value);
                let keep = told.is_none();
                request.expressions.extend(told);
                keep
            });
            if !request.expressions.is_empty() {
                let mut rest = query.clone();
                rest.set("buildargs", &Value::from(arguments).to_string());
                request.rest = Some(rest);
            }
        }
        request
    }
}

/// The argument as the scheduler reads it: clients split `constraint:node==n1` at its first `=`.
fn expression(key: &str, value: &Value) -> Option<String> {
    let (keyword, _) = key.split_once(':')?;
    let value = value.as_str().map(|value| format!("={value}")).unwrap_or_default();
    KEYWORDS.contains(&keyword).then(|| format!("{key}{value}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(query: &str) -> BuildRequest {
        BuildRequest::read(&Query::parse(Some(query)).unwrap())
    }

    #[test]
    fn the_scheduler_is_told_and_the_engine_is_not() {
        let args =
            r#"{"VERSION":"1","constraint:node":"=n1","constraint:zone!":"b","affinity:image":"=~x","HOME":null}"#;
        let mut query = Query::default();
        query.set("t", "app:1");
        query.set("buildargs", args);
        let request = BuildRequest::read(&query);
        assert_eq!(request.expressions, ["constraint:node==n1", "constraint:zone!=b", "affinity:image==~x"]);
        let rest = request.rest.unwrap();
        assert_eq!((rest.get("t"), rest.get("buildargs")), (Some("app:1"), Some(r#"{"VERSION":"1","HOME":null}"#)));
        assert_eq!(read("buildargs=%7B%22A%22:%22constraint:x%22%7D").rest, None);
        assert_eq!(read("buildargs=x").expressions, [""; 0]);
    }

    #[test]
    fn requests_that_belong_together_say_so() {
        let build = read("buildid=b1&session=s1&t=a&t=b");
        assert_eq!((build.id.as_deref(), build.session.as_deref(), build.upload_for), (Some("b1"), Some("s1"), None));
        assert_eq!(build.tags, ["a", "b"]);
        let upload = read("buildid=upload-request:b1");
        assert_eq!((upload.id, upload.upload_for.as_deref()), (None, Some("b1")));
    }

    #[test]
    fn what_a_build_may_use_is_reserved() {
        let request = read("memory=1048576&cpuquota=150000");
        assert_eq!((request.memory, request.cpus.to_string().as_str()), (Bytes(1 << 20), "1.5"));
        assert_eq!(read("memory=-1&cpuquota=x&cpuperiod=0"), BuildRequest::default());
    }

    proptest! {
        #[test]
        fn no_arguments_make_it_panic(args in ".*|\\{\"[a-z:]{0,12}\":(null|1|\"[a-z=!]{0,4}\")\\}", quota in any::<u64>()) {
            let mut query = Query::default();
            query.set("buildargs", &args);
            query.set("cpuquota", &quota.to_string());
            BuildRequest::read(&query);
        }
    }
}
