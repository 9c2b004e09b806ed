//! Values of headers as RFC 9110 has them: lists over several lines, names without case, arguments in quotes,
//! weights. Every reader of a header that is more than one word goes through here.

use actix_web::http::header::{self, HeaderMap, HeaderName};

/// The lines of a header that are text.
fn lines(headers: &HeaderMap, name: impl Into<HeaderName>) -> Vec<&str> {
    headers.get_all(name.into()).filter_map(|line| line.to_str().ok()).collect()
}

/// The elements of a list, in order, over all lines of the header (RFC 9110, section 5.6.1). A line with a
/// quote that does not end has none.
#[must_use]
pub fn list(headers: &HeaderMap, name: impl Into<HeaderName>) -> Vec<&str> {
    let elements = lines(headers, name).into_iter().filter_map(|line| split(line, ',')).flatten();
    elements.map(str::trim).filter(|element| !element.is_empty()).collect()
}

/// Splits outside quotes; `None` when a quote does not end.
pub(super) fn split(text: &str, at: char) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (index, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if character == at && !quoted => {
                parts.push(&text[start..index]);
                start = index + at.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!quoted).then_some(parts)
}

/// A token, or what stands in the quotes of a quoted string.
pub(super) fn unquote(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix('"') else { return (!value.contains('"')).then(|| value.to_owned()) };
    let mut text = String::new();
    let mut characters = inner.chars();
    loop {
        match characters.next()? {
            '\\' => text.push(characters.next()?),
            '"' => return characters.next().is_none().then_some(text),
            character => text.push(character),
        }
    }
}

/// Whether this is a token (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

/// A media type or a range of them, with its parameters; names are in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType {
    /// Such as `application`.
    pub kind: String,
    /// Such as `json`.
    pub subtype: String,
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// Reads one; `None` when it is not one. Parameters that cannot be read are skipped.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = split(text, ';')?.into_iter();
        // Old clients of Java send a lone star for any type.
        let essence = parts.next()?.trim();
        let (kind, subtype) = if essence == "*" { ("*", "*") } else { essence.split_once('/')? };
        if !is_token(kind) || !is_token(subtype) {
            return None;
        }
        let parameter = |part: &str| {
            let (name, value) = part.split_once('=')?;
            Some((name.trim().to_ascii_lowercase(), unquote(value.trim())?))
        };
        let parameters = parts.filter_map(parameter).collect();
        Some(Self { kind: kind.to_ascii_lowercase(), subtype: subtype.to_ascii_lowercase(), parameters })
    }

    /// The first value of a parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is this type, whatever its parameters.
    #[must_use]
    pub fn is(&self, essence: &str) -> bool {
        essence.split_once('/').is_some_and(|(kind, subtype)| self.kind == kind && self.subtype == subtype)
    }

    /// Whether it is JSON, or a type that is written in JSON (RFC 6839).
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.subtype == "json" || self.subtype.ends_with("+json")
    }
}

impl std::fmt::Display for MediaType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.subtype)
    }
}

/// The type of a body; `None` when nothing is said of it that can be read.
#[must_use]
pub fn content_type(headers: &HeaderMap) -> Option<MediaType> {
    let line = lines(headers, header::CONTENT_TYPE).into_iter().next()?;
    // Some proxies make one line of two that say the same.
    MediaType::parse(line).or_else(|| MediaType::parse(line.split(',').next()?))
}

/// The first coding of a body that is not `identity`.
#[must_use]
pub fn content_coding(headers: &HeaderMap) -> Option<&str> {
    // What is no text is no coding that anybody knows.
    let unread = headers.get_all(header::CONTENT_ENCODING).any(|line| line.to_str().is_err());
    let codings = list(headers, header::CONTENT_ENCODING);
    codings.into_iter().find(|coding| !coding.eq_ignore_ascii_case("identity")).or(unread.then_some("?"))
}

/// How much a client wants a media type (RFC 9110, section 12.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    /// From 0, not at all, to 1000.
    weight: u16,
    /// Whether the type is named itself, not only by a range.
    named: bool,
}

/// The most specific range that holds the type decides.
fn wish(ranges: &[MediaType], media: &str) -> Wish {
    let specificity = |range: &MediaType| match (range.kind.as_str(), range.subtype.as_str()) {
        ("*", "*") => Some(0),
        (kind, "*") => media.starts_with(&format!("{kind}/")).then_some(1),
        _ => range.is(media).then_some(2),
    };
    let fitting = ranges.iter().filter_map(|range| Some((specificity(range)?, weight(range.parameter("q")))));
    let best = fitting.max();
    Wish { weight: best.map_or(0, |(_, weight)| weight), named: best.is_some_and(|(specificity, _)| specificity == 2) }
}

/// A weight in thousandths; one that cannot be read counts in full.
fn weight(text: Option<&str>) -> u16 {
    let Some(text) = text else { return 1000 };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "0" if digits => format!("{fraction:0<3}").parse().unwrap_or(1000),
        _ => 1000,
    }
}

/// Whether a client wants `media` rather than `usual`, which it gets when it has no wish. Where both weigh the
/// same, `media` has to be named.
#[must_use]
pub fn prefers(headers: &HeaderMap, media: &str, usual: &str) -> bool {
    let ranges: Vec<_> = list(headers, header::ACCEPT).into_iter().filter_map(MediaType::parse).collect();
    let (media, usual) = (wish(&ranges, media), wish(&ranges, usual));
    media.weight > usual.weight || (media.named && media.weight == usual.weight && media.weight > 0)
}

/// What `Authorization` presents under this scheme.
#[must_use]
pub fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (named, token) = value.trim().split_once([' ', '\t'])?;
    named.eq_ignore_ascii_case(scheme).then(|| token.trim())
}

/// How old an answer may be, in seconds, that is given once more: `max-age` of the request (RFC 9111,
/// section 5.2.1.1). `None` where it says nothing of that, or forbids it.
#[must_use]
pub fn max_age(headers: &HeaderMap) -> Option<u64> {
    let mut found: Option<u64> = None;
    for directive in list(headers, header::CACHE_CONTROL) {
        let (name, argument) = match directive.split_once('=') {
            Some((name, argument)) => (name.trim(), unquote(argument.trim())),
            None => (directive, None),
        };
        if ["no-cache", "no-store"].iter().any(|forbids| name.eq_ignore_ascii_case(forbids)) {
            return None;
        }
        if name.eq_ignore_ascii_case("max-age") {
            // What cannot be read asks for an answer that is fresh.
            let seconds = argument.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
            let seconds = seconds.map_or(0, |text| text.parse().unwrap_or(u64::MAX));
            found = Some(found.map_or(seconds, |other| other.min(seconds)));
        }
    }
    found
}

/// Whether `If-None-Match` names what has this tag, by the weak comparison (RFC 9110, section 13.1.2).
#[must_use]
pub fn none_match(headers: &HeaderMap, tag: &str) -> bool {
    lines(headers, header::IF_NONE_MATCH).into_iter().any(|line| {
        if line.trim() == "*" {
            return true;
        }
        // Commas may stand in a tag, and a backslash in one escapes nothing.
        let mut rest = line;
        while let Some((_, after)) = rest.split_once('"') {
            let Some((found, more)) = after.split_once('"') else { return false };
            if found == tag {
                return true;
            }
            rest = more;
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;
    use proptest::prelude::*;

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(name.clone(), HeaderValue::from_str(value).expect("a value"));
        }
        map
    }

    #[test]
    fn types_compare_without_case_and_with_any_whitespace() {
        for (text, shown, charset) in [
            ("application/json", "application/json", None),
            ("Application/JSON;Charset=UTF-8", "application/json", Some("UTF-8")),
            ("application/json ; charset = \"utf-8\" ", "application/json", Some("utf-8")),
            ("application/json;;charset=utf-8", "application/json", Some("utf-8")),
            ("text/plain; a=\"x;y,\\\"z\"; charset=b", "text/plain", Some("b")),
        ] {
            let read = MediaType::parse(text).expect(text);
            assert_eq!((read.to_string().as_str(), read.parameter("charset")), (shown, charset), "{text}");
        }
        for text in ["", "json", "/json", "application/", "a b/c", "application/json;x=\"", "a/b/c"] {
            assert_eq!(MediaType::parse(text), None, "{text}");
        }
        let json = |text| MediaType::parse(text).is_some_and(|it| it.is_json());
        assert!(json("Application/Problem+JSON") && json("application/json") && !json("text/plain"));
        let twice = headers(&[(header::CONTENT_TYPE, "application/json, application/json")]);
        assert!(content_type(&twice).is_some_and(|it| it.is_json()));
        let form = headers(&[(header::CONTENT_TYPE, "Multipart/Form-Data ; Boundary=a,b=c")]);
        assert_eq!(
            content_type(&form).and_then(|it| it.parameter("boundary").map(str::to_owned)),
            Some("a,b=c".into())
        );
    }

    #[test]
    fn the_most_specific_range_decides_what_is_wanted() {
        let stream = |accept: &[&str]| {
            let lines: Vec<_> = accept.iter().map(|line| (header::ACCEPT, *line)).collect();
            prefers(&headers(&lines), "text/event-stream", "application/json")
        };
        for wanted in [
            "text/event-stream",
            "Text/Event-Stream",
            "application/json, text/event-stream",
            "text/event-stream;q=0.5, */*;q=0.4",
            "text/*",
            "TEXT/*;q=0.2, application/json;q=0.1",
            "text/event-stream ; charset=utf-8 ; Q=0.9, application/json;q=0.8",
            "text/event-stream;q=0.001",
            "application/json;q=0, */*",
            "text/event-stream, */*",
        ] {
            assert!(stream(&[wanted]), "{wanted}");
        }
        for usual in [
            "",
            "*/*",
            "application/json",
            "application/json;q=0.9, text/event-stream;q=0",
            "text/event-stream;q=0",
            "text/event-stream;q=0.0, text/*, */*;q=0.1",
            "text/event-stream;q=0.5, application/json",
            "text/event-stream;q=0.5, */*",
            "image/png",
            "x-text/event-stream",
            "text/event-streams",
            "*",
        ] {
            assert!(!stream(&[usual]), "{usual}");
        }
        assert!(!stream(&[]), "who says nothing gets what is usual");
        assert!(stream(&["application/json;q=0.1", "text/event-stream;q=0.2"]), "several lines are one list");
    }

    #[test]
    fn a_scheme_has_no_case() {
        for (value, found) in [
            ("Bearer x", Some("x")),
            ("bearer x", Some("x")),
            ("BEARER   x ", Some("x")),
            ("bearer\tx", Some("x")),
            ("Basic x", None),
            ("Bearerx", None),
            ("Bearer", None),
        ] {
            assert_eq!(credentials(&headers(&[(header::AUTHORIZATION, value)]), "bearer"), found, "{value}");
        }
    }

    #[test]
    fn directives_have_no_case_and_their_arguments_may_be_quoted() {
        let age = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| (header::CACHE_CONTROL, *line)).collect();
            max_age(&headers(&lines))
        };
        for (value, seconds) in [
            ("max-age=60", Some(60)),
            ("Max-Age=60", Some(60)),
            ("max-age=\"60\"", Some(60)),
            ("max-age = 60", Some(60)),
            ("no-transform, max-age=60", Some(60)),
            ("x=\"a, max-age=5\", max-age=60", Some(60)),
            ("max-age=60, max-age=30", Some(30)),
            ("max-age=99999999999999999999", Some(u64::MAX)),
            ("max-age=-1", Some(0)),
            ("max-age", Some(0)),
            ("max-age=", Some(0)),
            ("max-age=1.5", Some(0)),
            ("max-age=60, No-Cache", None),
            ("no-store=\"x\", max-age=60", None),
            ("max-stale=60", None),
            ("max-age=\"60", None),
        ] {
            assert_eq!(age(&[value]), seconds, "{value}");
        }
        assert_eq!(age(&["max-age=60", "max-age=20"]), Some(20));
        assert_eq!(age(&["max-age=60", "NO-STORE"]), None);
    }

    #[test]
    fn tags_are_compared_weakly_over_all_lines() {
        let known = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| (header::IF_NONE_MATCH, *line)).collect();
            none_match(&headers(&lines), "ab")
        };
        for value in ["\"ab\"", "W/\"ab\"", "\"x\", \"ab\"", "\"x,\\\",W/\"ab\"", "*", " * "] {
            assert!(known(&[value]), "{value}");
        }
        for value in ["", "ab", "\"abc\"", "\"ab", "\"AB\"", "\"x\", \"*\""] {
            assert!(!known(&[value]), "{value}");
        }
        assert!(known(&["\"x\"", "\"ab\""]));
    }

    #[test]
    fn identity_is_no_coding() {
        let coding = |value: &str| content_coding(&headers(&[(header::CONTENT_ENCODING, value)])).map(str::to_owned);
        for value in ["identity", "Identity", " IDENTITY , identity", ""] {
            assert_eq!(coding(value), None, "{value}");
        }
        assert_eq!(coding("identity, GZIP").as_deref(), Some("GZIP"));
    }

    proptest! {
        #[test]
        fn any_value_is_read(value in "[ -~\t]{0,80}") {
            let all = [header::ACCEPT, header::CONTENT_TYPE, header::CACHE_CONTROL, header::IF_NONE_MATCH,
                header::AUTHORIZATION, header::CONTENT_ENCODING];
            let map = headers(&all.map(|name| (name, value.as_str())));
            let _ = (content_type(&map), content_coding(&map), max_age(&map), none_match(&map, "x"));
            let _ = (credentials(&map, "bearer"), prefers(&map, "text/csv", "application/json"));
        }

        #[test]
        fn what_is_refused_is_never_preferred(more in "[a-z]{1,8}/[a-z]{1,8}") {
            let value = format!("text/csv;q=0, {more}");
            prop_assume!(more != "text/csv");
            prop_assert!(!prefers(&headers(&[(header::ACCEPT, &value)]), "text/csv", "application/json"));
        }
    }
}
