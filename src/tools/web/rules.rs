//! What a robots.txt says to us, after RFC 9309.

/// The rules of one robots.txt that are meant for us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    /// With percent-encoding normalised; `*` stands for anything.
    pattern: Box<[u8]>,
    /// Whether the pattern has to reach the end of the path.
    to_end: bool,
}

/// A line that matters.
enum Line<'a> {
    Agent(&'a [u8]),
    Rule { allow: bool, pattern: &'a [u8] },
}

impl Rules {
    /// Reads the groups for this agent, or those for everybody when there is
    /// none. Whatever it does not understand it passes over.
    pub(super) fn read(text: &[u8], agent: &str) -> Self {
        let (mut own, mut general) = (None, Self::default());
        let (mut for_us, mut for_all, mut in_rules) = (false, false, false);
        for line in lines(text) {
            match line {
                Line::Agent(name) => {
                    if std::mem::take(&mut in_rules) {
                        (for_us, for_all) = (false, false);
                    }
                    for_all |= name == b"*";
                    if token(name).eq_ignore_ascii_case(agent.as_bytes()) {
                        for_us = true;
                        own.get_or_insert_with(Self::default);
                    }
                }
                Line::Rule { allow, pattern } => {
                    in_rules = true;
                    let Some(rule) = Rule::read(allow, pattern) else { continue };
                    if let (true, Some(own)) = (for_us, &mut own) {
                        own.0.push(rule.clone());
                    }
                    if for_all {
                        general.0.push(rule);
                    }
                }
            }
        }
        let mut rules = own.unwrap_or(general);
        // The longest match counts, and of two as long the one that allows.
        rules.0.sort_by_key(|rule| (std::cmp::Reverse(rule.length()), !rule.allow));
        rules.0.dedup();
        rules
    }

    /// Whether a path, with its query, may be fetched.
    pub(super) fn allow(&self, path: &str) -> bool {
        let path = normal(path.as_bytes(), b"*$");
        path == b"/robots.txt" || self.0.iter().find(|rule| rule.matches(&path)).is_none_or(|rule| rule.allow)
    }

    /// Bytes that it takes in memory, about.
    pub(super) fn weight(&self) -> usize {
        self.0.iter().map(|rule| rule.pattern.len() + size_of::<Rule>()).sum::<usize>() + 64
    }
}

impl Rule {
    /// An empty pattern is no rule.
    fn read(allow: bool, pattern: &[u8]) -> Option<Self> {
        let (pattern, to_end) = pattern.strip_suffix(b"$").map_or((pattern, false), |pattern| (pattern, true));
        let rule = Self { allow, pattern: normal(pattern, b"$").into(), to_end };
        (rule.length() > 0).then_some(rule)
    }

    fn length(&self) -> usize {
        self.pattern.len() + usize::from(self.to_end)
    }

    /// Each piece between the stars is looked for where the one before ended;
    /// taking the first place is right, because a star takes what is left.
    fn matches(&self, path: &[u8]) -> bool {
        let mut pieces = self.pattern.split(|byte| *byte == b'*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = path.strip_prefix(first) else { return false };
        let mut pieces: Vec<_> = pieces.collect();
        let last = if self.to_end { pieces.pop() } else { None };
        for piece in pieces {
            match find(rest, piece) {
                Some(end) => rest = &rest[end..],
                None => return false,
            }
        }
        match (self.to_end, last) {
            (true, Some(last)) => rest.ends_with(last),
            (true, None) => rest.is_empty(),
            (false, _) => true,
        }
    }
}

/// Where the first occurrence ends.
fn find(text: &[u8], piece: &[u8]) -> Option<usize> {
    if piece.is_empty() {
        return Some(0);
    }
    text.windows(piece.len()).position(|window| window == piece).map(|start| start + piece.len())
}

fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    text.split(|byte| matches!(byte, b'\n' | b'\r')).filter_map(|line| {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        match name.to_ascii_lowercase().as_slice() {
            b"user-agent" => Some(Line::Agent(value)),
            b"allow" => Some(Line::Rule { allow: true, pattern: value }),
            b"disallow" => Some(Line::Rule { allow: false, pattern: value }),
            _ => None,
        }
    })
}

/// The product token that a name begins with.
fn token(name: &[u8]) -> &[u8] {
    let end = name.iter().position(|byte| !byte.is_ascii_alphabetic() && !matches!(byte, b'-' | b'_'));
    &name[..end.unwrap_or(name.len())]
}

/// The same path always written the same way: what need not be encoded is
/// not, what is not ASCII is, and the digits are capital. Signs that mean
/// something in a pattern are encoded where they mean themselves.
fn normal(path: &[u8], special: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(path.len());
    let mut rest = path;
    let encode = |written: &mut Vec<u8>, byte: u8| written.extend_from_slice(format!("%{byte:02X}").as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, encoded(after)) {
            (b'%', Some(byte)) => {
                rest = &after[2..];
                match byte {
                    b'-' | b'.' | b'_' | b'~' => written.push(byte),
                    _ if byte.is_ascii_alphanumeric() => written.push(byte),
                    _ => encode(&mut written, byte),
                }
            }
            _ if byte.is_ascii_graphic() && !special.contains(&byte) => written.push(byte),
            _ => encode(&mut written, byte),
        }
    }
    written
}

/// The byte that two hexadecimal digits mean.
fn encoded(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (high, low) = (digit(*digits.first()?)?, digit(*digits.get(1)?)?);
    u8::try_from(high * 16 + low).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allows(text: &str, path: &str) -> bool {
        Rules::read(text.as_bytes(), "agentd").allow(path)
    }

    /// The examples of RFC 9309, section 5.
    #[test]
    fn the_examples_of_the_standard() {
        let simple = "User-Agent: *\nDisallow: *.gif$\nDisallow: /example/\nAllow: /publications/\n\n\
                      User-Agent: foobot\nDisallow:/\nAllow:/example/page.html\nAllow:/example/allowed.gif\n\n\
                      User-Agent: barbot\nUser-Agent: bazbot\nDisallow: /example/page.html\n\nUser-Agent: quxbot\n";
        let of = |agent: &str, path: &str| Rules::read(simple.as_bytes(), agent).allow(path);
        assert!(!of("agentd", "/a.gif") && of("agentd", "/a.gif.html") && !of("agentd", "/example/x"));
        assert!(of("agentd", "/publications/") && of("agentd", "/"));
        assert!(of("foobot", "/example/page.html") && of("foobot", "/example/allowed.gif"));
        assert!(!of("foobot", "/example/other") && !of("FooBot", "/"));
        for agent in ["barbot", "bazbot"] {
            assert!(!of(agent, "/example/page.html") && of(agent, "/example/"));
        }
        assert!(of("quxbot", "/example/"), "its group has no rules");
        let longest = "User-Agent: foobot\nAllow: /example/page/\nDisallow: /example/page/disallowed.gif\n";
        let of = |path: &str| Rules::read(longest.as_bytes(), "foobot").allow(path);
        assert!(of("/example/page/") && !of("/example/page/disallowed.gif"));
    }

    #[test]
    fn groups_are_joined_and_the_general_one_is_for_the_rest() {
        let text = "user-agent: agentd\ndisallow: /a\n\nUser-agent: *\nDisallow: /b\n\nUSER-AGENT: AgentD/2.0 (bot)\nDisallow: /c # no\n";
        assert!(!allows(text, "/a") && allows(text, "/b") && !allows(text, "/c"));
        assert!(allows("User-agent: agentdx\nDisallow: /", "/"), "another name");
        assert!(allows("Disallow: /", "/"), "a rule of no group");
        assert!(!allows("User-agent: *\r\rDisallow: /\r", "/x") && allows("User-agent: *\rDisallow:\r", "/x"));
        assert!(!allows("\u{feff}User-agent: *\nSitemap: /x\nCrawl-delay: 5\nDisallow: /", "/x"));
    }

    #[test]
    fn of_two_rules_as_long_the_one_that_allows_counts() {
        assert!(allows("User-agent: *\nDisallow: /page\nAllow: /page", "/page"));
        assert!(allows("User-agent: *\nAllow: /p\nDisallow: /", "/page"));
        assert!(!allows("User-agent: *\nAllow: /page\nDisallow: /*.html", "/page.html"));
        assert!(allows("User-agent: *\nDisallow: /", "/robots.txt"));
    }

    #[test]
    fn stars_dollars_and_encoded_paths() {
        for (pattern, path, matches) in [
            ("/fish", "/fish", true),
            ("/fish", "/fishheads?id=1", true),
            ("/fish", "/Fish", false),
            ("/fish*", "/fish.html", true),
            ("/*.php$", "/x.php", true),
            ("/*.php$", "/x.php?y", false),
            ("/*.php$", "/x.php.php", true),
            ("/a*b*c", "/a-b-b-c-d", true),
            ("/a*b*c", "/a-c-b", false),
            ("/*$", "/anything", true),
            ("/$", "/", true),
            ("/$", "/x", false),
            ("*", "/x", true),
            ("/a**b", "/ab", true),
            ("/caf%C3%A9", "/caf%c3%a9", true),
            ("/café", "/caf%C3%A9", true),
            ("/%7Ejoe", "/~joe", true),
            ("/a%2Fb", "/a/b", false),
            ("/100%", "/100%", true),
            ("/a%2Ab", "/a*b", true),
            ("/a%2Ab", "/axb", false),
            ("/a*b", "/a*b", true),
            ("/x%24", "/x$y", true),
            ("/x%24", "/x", false),
            ("/x$y", "/x$y", true),
        ] {
            let text = format!("User-agent: *\nDisallow: {pattern}\n");
            assert_eq!(!allows(&text, path), matches, "{pattern} {path}");
        }
    }

    #[test]
    fn a_path_of_stars_takes_no_time() {
        let text = format!("User-agent: *\nDisallow: /{}x$\n", "*a".repeat(10_000));
        assert!(allows(&text, &format!("/{}", "a".repeat(8_000))));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: Vec<u8>, path in "/[ -~é]{0,30}") {
            let rules = Rules::read(&text, "agentd");
            let _ = rules.allow(&path);
        }

        #[test]
        fn lines_of_the_format_are_read(lines in prop::collection::vec("(user-agent|allow|disallow|x): ?[a-z*/$%#]{0,8}", 0..20), path in "/[a-z/%]{0,12}") {
            let text = lines.join("\n");
            let _ = allows(&text, &path);
            prop_assert!(allows(&text.replace("dis", ""), &path), "nothing is forbidden without a prohibition");
        }
    }
}
