//! Taking secrets out of text that is handed on.

/// What stands in a secret's place.
const GONE: &str = "[removed]";
/// A secret shorter than this is no secret, and is found everywhere.
const SHORTEST: usize = 6;

/// The text without these secrets and without the users and passwords of URLs, such as those of proxies.
pub fn redact(text: &str, secrets: &[String]) -> String {
    // Those of several lines, such as keys, also line by line: text is often shown so.
    let lines = secrets.iter().flat_map(|s| s.lines());
    let mut secrets: Vec<String> =
        secrets.iter().map(String::as_str).chain(lines).map(|s| s.trim().to_owned()).collect();
    secrets.retain(|s| s.len() >= SHORTEST);
    // As they stand in JSON, too.
    let escaped: Vec<String> = secrets.iter().map(|s| s.replace('\\', r"\\").replace('"', r#"\""#)).collect();
    secrets.extend(escaped);
    // One may begin another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let text = secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), GONE));
    without_logins(&text)
}

fn without_logins(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let authority = tail.find(|c: char| c.is_whitespace() || "/?#\"'<>|\\".contains(c)).unwrap_or(tail.len());
        match tail[..authority].rfind('@') {
            Some(login) => {
                out.push_str(GONE);
                rest = &tail[login..];
            }
            None => rest = tail,
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_and_logins_go_and_all_else_stays() {
        let secrets = ["feba5683f4a1".to_owned(), "a".to_owned(), "  spaced-secret\n".to_owned()];
        let text = "token feba5683f4a1, spaced-secret; proxy http://user:p%40ss@proxy:3128/x and https://me@h, not http://h/@x";
        let clean =
            "token [removed], [removed]; proxy http://[removed]@proxy:3128/x and https://[removed]@h, not http://h/@x";
        assert_eq!(redact(text, &secrets), clean);
        let key = ["-----BEGIN\nc2VjcmV0\n-----END".to_owned()];
        assert_eq!(redact(r#"{"k": "-----BEGIN\nc2VjcmV0\n"}"#, &key), r#"{"k": "[removed]\n[removed]\n"}"#);
        let secrets = ["hunter2".to_owned(), "hunter2-root".to_owned(), r#"qu"ot\ed"#.to_owned()];
        let text = r#"{"a": "hunter2-root", "b": "hunter2", "c": "qu\"ot\\ed"}"#;
        assert_eq!(redact(text, &secrets), r#"{"a": "[removed]", "b": "[removed]", "c": "[removed]"}"#);
        assert_eq!(redact("HTTPS_PROXY=http://a:b@c@d:1", &[]), "HTTPS_PROXY=http://[removed]@d:1");
    }

    proptest! {
        #[test]
        fn no_secret_is_left(before in "\\PC{0,20}", secret in "[0-9a-f]{8,64}", after in "\\PC{0,20}") {
            let clean = redact(&format!("{before} {secret} {after} x://{secret}@{after}"), std::slice::from_ref(&secret));
            prop_assert!(!clean.contains(&secret));
        }

        #[test]
        fn a_password_in_a_url_is_gone(user in "[a-z]{1,5}", password in "[A-Z0-9]{6,12}", rest in "\\PC{0,20}") {
            let clean = redact(&format!("x=http://{user}:{password}@host:1/ {rest}"), &[]);
            let login = format!(":{password}@");
            prop_assert!(!clean.contains(&login));
        }

        #[test]
        fn text_without_either_is_as_it_was(text in "[a-z:/ .\n]{0,60}") {
            prop_assert_eq!(redact(&text, &["0123456789".to_owned()]), text);
        }
    }
}
