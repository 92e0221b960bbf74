//! Request paths as decoded segments, and the way back. Names are replaced segment by segment, never by searching the
//! text: a container called `v1` or `con` must not corrupt the path around it.

use crate::version::{ApiVersion, MAX, MIN};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

/// Everything that may not stand as it is in a path segment (RFC 3986, `pchar`).
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A request path, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiPath {
    /// The version the client speaks; the newest where the path names none.
    pub version: ApiVersion,
    /// The segments behind the version. Empty ones are left out: old clients write `/containers//name/json`. Only an
    /// empty last one stays, for a slash at the end, which engines take for another path.
    pub segments: Vec<String>,
}

/// The path cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The version is below the oldest served.
    #[error(
        "client version {0} is too old. Minimum supported API version is {MIN}, please upgrade your client to a newer version"
    )]
    TooOld(ApiVersion),
    /// The version is above the newest served.
    #[error("client version {0} is too new. Maximum supported API version is {MAX}")]
    TooNew(ApiVersion),
    /// An escape is broken, does not spell UTF-8, or hides a dot segment.
    #[error("decode the path '{0}'")]
    Encoding(String),
}

impl ApiPath {
    /// Reads a path as it stands in the request line, without its query.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        let bad = || PathError::Encoding(path.to_owned());
        let mut segments = Vec::new();
        for raw in path.split('/').filter(|s| !s.is_empty()) {
            let segment = decode(raw).ok_or_else(bad)?;
            if segment == "." || segment == ".." {
                return Err(bad());
            }
            segments.push(segment);
        }
        if path.ends_with('/') && !segments.is_empty() {
            segments.push(String::new());
        }
        let version = segments.first().and_then(|s| s.strip_prefix('v')?.parse::<ApiVersion>().ok());
        if let Some(version) = version {
            segments.remove(0);
            match version {
                v if v < MIN => return Err(PathError::TooOld(v)),
                v if v > MAX => return Err(PathError::TooNew(v)),
                _ => {}
            }
        }
        Ok(Self { version: version.unwrap_or(MAX), segments })
    }
}

/// Undoes percent encoding; `None` where an escape is broken or the bytes are not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    for (i, _) in bytes.iter().enumerate().filter(|(_, b)| **b == b'%') {
        let hex = bytes.get(i + 1..i + 3)?;
        hex.iter().all(u8::is_ascii_hexdigit).then_some(())?;
    }
    percent_decode(bytes).decode_utf8().ok().map(|t| t.into_owned())
}

/// Writes the path that asks an engine for `segments` in its version, with the query as it came (empty for none).
pub fn upstream(version: ApiVersion, segments: &[&str], query: &str) -> String {
    let mut path = format!("/v{version}");
    for segment in segments {
        path.push('/');
        path.extend(utf8_percent_encode(segment, SEGMENT));
    }
    if !query.is_empty() {
        path.push('?');
        path.push_str(query);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_version_is_split_off_and_checked() {
        let path = ApiPath::parse("/v1.41/containers/v1.24/json").unwrap();
        assert_eq!(
            (path.version.to_string().as_str(), path.segments.join(" ").as_str()),
            ("1.41", "containers v1.24 json")
        );
        assert_eq!(ApiPath::parse("/_ping").unwrap(), ApiPath { version: MAX, segments: vec!["_ping".into()] });
        assert!(matches!(ApiPath::parse("/v1.23/info"), Err(PathError::TooOld(_))));
        assert!(matches!(ApiPath::parse("/v1.52/info"), Err(PathError::TooNew(_))));
        assert_eq!(ApiPath::parse("/v1/clusters").unwrap().segments, ["v1", "clusters"]);
    }

    #[test]
    fn segments_are_decoded_one_by_one() {
        let path = ApiPath::parse("/containers/node%2Fweb/json").unwrap();
        assert_eq!(path.segments, ["containers", "node/web", "json"]);
        assert_eq!(ApiPath::parse("/containers//web/json").unwrap().segments, ["containers", "web", "json"]);
        assert_eq!(ApiPath::parse("/v1.41/info/").unwrap().segments, ["info", ""]);
        assert!(ApiPath::parse("//").unwrap().segments.is_empty());
        for bad in ["/a%", "/a%2", "/a%zz", "/%ff", "/a/../b", "/a/%2e%2e/b"] {
            assert!(matches!(ApiPath::parse(bad), Err(PathError::Encoding(_))), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(segments in prop::collection::vec("[^\u{0}]{1,12}", 0..5)) {
            prop_assume!(segments.iter().all(|s| !matches!(s.as_str(), "." | ".." | "")));
            let refs: Vec<&str> = segments.iter().map(String::as_str).collect();
            let parsed = ApiPath::parse(&upstream(MAX, &refs, "")).unwrap();
            prop_assert_eq!(parsed.segments, segments);
        }

        #[test]
        fn no_path_makes_it_panic(path in ".*") {
            let _ = ApiPath::parse(&path);
        }
    }
}
