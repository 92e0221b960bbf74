//! Python literals, the values of Ansible's INI dialect: what `ast.literal_eval` takes becomes JSON, all else is text.
//!
//! Must not know which variable the value is for. Follows the Python Language Reference, 2.4 and 2.5, for numbers,
//! strings, lists, tuples, sets, dictionaries and the names `True`, `False` and `None`. Tuples and sets become lists,
//! keys become strings as JSON needs. Numbers that JSON cannot hold exactly stay text.

use crate::yaml;
use serde_json::{Map, Number, Value};

/// How deep lists may be nested; deeper text stays text.
const DEPTH: usize = 64;

/// The value that a text means: a literal's, or else the text itself.
pub(crate) fn value(text: &str) -> Value {
    parse(text).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn parse(text: &str) -> Option<Value> {
    let mut parser = Parser { rest: text.trim_start_matches([' ', '\t']) };
    let first = parser.item(0)?;
    let value = if parser.peek() == Some(',') {
        parser.skip(',');
        let mut items = vec![first];
        items.extend(parser.items(None, 0)?);
        Value::Array(items)
    } else {
        first
    };
    (parser.peek().is_none()).then_some(value)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// The next character behind blanks; a comment counts as the end.
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\u{c}']);
        self.rest.chars().next().filter(|&c| c != '#')
    }

    fn skip(&mut self, c: char) {
        self.rest = self.rest.strip_prefix(c).unwrap_or(self.rest);
    }

    fn eat(&mut self, c: char) -> Option<()> {
        (self.peek()? == c).then(|| self.skip(c))
    }

    fn item(&mut self, depth: usize) -> Option<Value> {
        if depth > DEPTH {
            return None;
        }
        match self.peek()? {
            '[' => {
                self.skip('[');
                self.items(Some(']'), depth + 1).map(Value::Array)
            }
            '(' => self.parentheses(depth + 1),
            '{' => self.braces(depth + 1),
            sign @ ('+' | '-') => {
                self.skip(sign);
                self.peek()?;
                self.number(sign == '-')
            }
            '0'..='9' => self.number(false),
            '.' if !self.rest.starts_with("...") => self.number(false),
            '.' => {
                self.rest = &self.rest[3..];
                Some(Value::String("...".to_owned()))
            }
            _ => self.name().or_else(|| self.strings()),
        }
    }

    /// Items up to a closing bracket, or to the end where there is none; the opening one is already read.
    fn items(&mut self, close: Option<char>, depth: usize) -> Option<Vec<Value>> {
        let mut items = Vec::new();
        while self.peek() != close {
            items.push(self.item(depth)?);
            if self.peek() != close {
                self.eat(',')?;
            }
        }
        close.map_or(Some(()), |c| self.eat(c))?;
        Some(items)
    }

    /// A tuple, or one value in parentheses.
    fn parentheses(&mut self, depth: usize) -> Option<Value> {
        self.skip('(');
        if self.peek()? == ')' {
            self.skip(')');
            return Some(Value::Array(Vec::new()));
        }
        let first = self.item(depth)?;
        if self.peek()? == ')' {
            self.skip(')');
            return Some(first);
        }
        self.eat(',')?;
        let mut items = vec![first];
        items.extend(self.items(Some(')'), depth)?);
        Some(Value::Array(items))
    }

    /// A dictionary or a set.
    fn braces(&mut self, depth: usize) -> Option<Value> {
        self.skip('{');
        if self.peek()? == '}' {
            self.skip('}');
            return Some(Value::Object(Map::new()));
        }
        let first = self.item(depth)?;
        if self.peek()? != ':' {
            let mut items = vec![first];
            if self.peek()? != '}' {
                self.eat(',')?;
            }
            items.extend(self.items(Some('}'), depth)?);
            return items.iter().all(|i| !i.is_array() && !i.is_object()).then_some(Value::Array(items));
        }
        let mut map = Map::new();
        let mut key = first;
        loop {
            self.eat(':')?;
            let value = self.item(depth)?;
            map.insert(key_text(&key)?, value);
            if self.peek()? != '}' {
                self.eat(',')?;
            }
            if self.peek()? == '}' {
                self.skip('}');
                return Some(Value::Object(map));
            }
            key = self.item(depth)?;
        }
    }

    fn name(&mut self) -> Option<Value> {
        let (word, rest) = self.word();
        let value = match word {
            "True" => Value::Bool(true),
            "False" => Value::Bool(false),
            "None" => Value::Null,
            _ => return None,
        };
        (!rest.starts_with(['"', '\''])).then(|| {
            self.rest = rest;
            value
        })
    }

    /// The longest run of word characters, and what is behind it.
    fn word(&self) -> (&'a str, &'a str) {
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        self.rest.split_at(end)
    }

    fn number(&mut self, negative: bool) -> Option<Value> {
        let mut end = 0;
        let mut last = '0';
        let radix_prefix = ["0x", "0X", "0o", "0O", "0b", "0B"].iter().any(|p| self.rest.starts_with(p));
        for (at, c) in self.rest.char_indices() {
            let exponent_sign = matches!(c, '+' | '-') && matches!(last, 'e' | 'E') && !radix_prefix;
            if !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_') || exponent_sign) {
                break;
            }
            (end, last) = (at + c.len_utf8(), c);
        }
        let (text, rest) = self.rest.split_at(end);
        let number = integer(text, negative).or_else(|| float(text, negative))?;
        self.rest = rest;
        Some(Value::Number(number))
    }

    /// One string, or several side by side, which are one.
    fn strings(&mut self) -> Option<Value> {
        let mut bytes: Option<bool> = None;
        let mut out = String::new();
        while let Some((prefix, quote)) = self.string_start() {
            let is_bytes = prefix.contains(['b', 'B']);
            if bytes.is_some_and(|b| b != is_bytes) {
                return None;
            }
            bytes = Some(is_bytes);
            self.rest = &self.rest[prefix.len()..];
            let triple = [quote; 3].iter().collect::<String>();
            let close = if self.rest.starts_with(&triple) { triple } else { quote.to_string() };
            self.rest = &self.rest[close.len()..];
            self.string(&close, prefix.contains(['r', 'R']), is_bytes, &mut out)?;
        }
        // Ansible takes what was bytes for no template.
        bytes.map(|bytes| if bytes { yaml::distrusted(out.into()) } else { Value::String(out) })
    }

    fn string_start(&mut self) -> Option<(&'a str, char)> {
        self.peek()?;
        let (prefix, rest) = self.word();
        let known = ["", "r", "u", "b", "br", "rb"].contains(&prefix.to_ascii_lowercase().as_str());
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        known.then_some((prefix, quote))
    }

    fn string(&mut self, close: &str, raw: bool, bytes: bool, out: &mut String) -> Option<()> {
        loop {
            if let Some(rest) = self.rest.strip_prefix(close) {
                self.rest = rest;
                return Some(());
            }
            match self.char()? {
                '\\' if raw => out.extend(['\\', self.char()?]),
                '\\' => self.escape(bytes, out)?,
                c if bytes && !c.is_ascii() => return None,
                c => out.push(c),
            }
        }
    }

    fn char(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn escape(&mut self, bytes: bool, out: &mut String) -> Option<()> {
        let start = self.rest;
        let code = match self.char()? {
            c @ ('\\' | '\'' | '"') => u32::from(c),
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            'x' => self.digits(16, 2, 2)?,
            'u' if !bytes => self.digits(16, 4, 4)?,
            'U' if !bytes => self.digits(16, 8, 8)?,
            'N' if !bytes => return None,
            '0'..='7' => {
                self.rest = start;
                self.digits(8, 1, 3)?
            }
            c => {
                out.extend(['\\', c]);
                return Some(());
            }
        };
        // A byte above 127 is not text by itself; such values stay as they were written.
        if bytes && code > 127 {
            return None;
        }
        out.push(char::from_u32(code)?);
        Some(())
    }

    fn digits(&mut self, radix: u32, min: usize, max: usize) -> Option<u32> {
        let count = self.rest.chars().take(max).take_while(|c| c.is_digit(radix)).count();
        let (text, rest) = self.rest.split_at(count);
        self.rest = rest;
        (count >= min).then(|| u32::from_str_radix(text, radix).ok())?
    }
}

/// The text of a dictionary's key, as Python's JSON encoder writes it.
fn key_text(key: &Value) -> Option<String> {
    match key {
        Value::String(s) => Some(s.clone()),
        Value::Array(_) | Value::Object(_) => None,
        other => Some(other.to_string()),
    }
}

/// Removes underscores that stand between two digits (2.4.5); `None` where one stands elsewhere.
fn without_underscores(text: &str, radix: u32) -> Option<String> {
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_digit(radix));
    let parts: Vec<&str> = text.split('_').collect();
    let good = parts.windows(2).all(|w| digit(w[0].chars().next_back()) && digit(w[1].chars().next()));
    good.then(|| parts.concat())
}

fn integer(text: &str, negative: bool) -> Option<Number> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ => (10, lower.as_str()),
    };
    let digits = if radix == 10 { digits } else { digits.strip_prefix('_').unwrap_or(digits) };
    let digits = without_underscores(digits, radix)?;
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    if radix == 10 && digits.starts_with('0') && digits.contains(|c| c != '0') {
        return None;
    }
    let magnitude = u64::from_str_radix(&digits, radix).ok()?;
    if !negative {
        return Some(magnitude.into());
    }
    i64::try_from(-i128::from(magnitude)).ok().map(Number::from)
}

fn float(text: &str, negative: bool) -> Option<Number> {
    let text = without_underscores(text, 10)?;
    let shape = text.contains(['.', 'e', 'E']) && text.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let number: f64 = text.parse().ok().filter(|_| shape)?;
    Number::from_f64(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn literals_become_values() {
        for (text, expected) in [
            ("22", json!(22)),
            ("-5", json!(-5)),
            ("- 5", json!(-5)),
            ("0x1F", json!(31)),
            ("0o17", json!(15)),
            ("0b1_01", json!(5)),
            ("1_000", json!(1000)),
            ("00", json!(0)),
            ("1.5", json!(1.5)),
            ("1.", json!(1.0)),
            (".5", json!(0.5)),
            ("1e3", json!(1000.0)),
            ("09.5", json!(9.5)),
            ("18446744073709551615", json!(u64::MAX)),
            ("True", json!(true)),
            ("False", json!(false)),
            ("None", json!(null)),
            ("'a b'", json!("a b")),
            (r#""a" 'b'"#, json!("ab")),
            ("'''it's'''", json!("it's")),
            (r"'a\tb\x41\101\u00e9\q'", json!("a\tbAA\u{e9}\\q")),
            (r"r'a\n'", json!(r"a\n")),
            ("b'ab'", json!({"__ansible_unsafe": "ab"})),
            ("[1, 'a', [True]]", json!([1, "a", [true]])),
            ("[]", json!([])),
            ("[1,]", json!([1])),
            ("(1)", json!(1)),
            ("(1,)", json!([1])),
            ("()", json!([])),
            ("1,2", json!([1, 2])),
            ("1,", json!([1])),
            ("{1, 2}", json!([1, 2])),
            ("{}", json!({})),
            ("{'a': 1, 2: [None], 'a': 3}", json!({"a": 3, "2": [null]})),
            ("5 # five", json!(5)),
            ("...", json!("...")),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn all_else_stays_text() {
        let texts = "|web|true|yes|1e_5|0644|10.1.1.0/24|5m|1__0|1_|_1|0x|0xg|--5|-True|1 2|[1|[a]|{'a'}x|{'a': }|{[1]: 2}|{[1]}|'a\
            |'a' b|b'a' 'b'|'\\x4'|'\\ud800'|1e999|123456789012345678901234567890|inf|nan|1+2|a,b|,|[,]|{{ x }}|f'a'|Truex|1.2.3";
        for text in texts.split('|') {
            assert_eq!(value(text), json!(text), "{text}");
        }
        let deep = "[".repeat(10_000);
        assert_eq!(value(&deep), json!(deep));
    }
}
