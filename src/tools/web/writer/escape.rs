//! Text as it has to stand in Markdown so that it is read as text. `CommonMark`
//! and the tables, the strikethrough and the task lists of GitHub are thought of.
//! Only what would be read as markup is escaped, so that people and models see
//! as few backslashes as possible.

/// Where a text stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// The character before it; none at the start of a line.
    pub(super) before: Option<char>,
    /// The character behind it; none at the end of a line.
    pub(super) after: Option<char>,
    /// Whether every square bracket is escaped, for a link's text that would end
    /// at one.
    pub(super) brackets: bool,
    /// Whether every tilde is: two of them may strike text out.
    pub(super) tildes: bool,
    /// Whether a vertical bar is: it ends a table's cell.
    pub(super) bars: bool,
}

/// Writes a text. Line breaks and what only counts at the start of a line are
/// not dealt with here.
pub(super) fn text(text: &str, place: Place, into: &mut String) {
    let mut before = place.before;
    let mut rest = text.char_indices();
    while let Some((at, c)) = rest.next() {
        let behind = rest.as_str();
        let after = behind.chars().next().or(place.after);
        let escaped = match c {
            // Before anything but punctuation a backslash is one.
            '\\' => after.is_none_or(|after| after.is_ascii_punctuation()),
            '`' => true,
            '*' => !(is_space(before) && is_space(after)),
            // Behind a letter or before a space it begins nothing, and what nothing
            // begins with it cannot end.
            '_' => !is_word(before) && !is_space(after),
            '~' => place.tildes,
            '[' => place.brackets || after == Some('^'),
            ']' => place.brackets || matches!(after, Some('(' | '[' | ':')),
            '!' => after == Some('['),
            '<' => after.is_some_and(|after| after.is_ascii_alphabetic() || matches!(after, '/' | '!' | '?')),
            '&' => is_reference(behind, place.after.is_some()),
            '|' => place.bars,
            _ => false,
        };
        if escaped {
            into.push('\\');
        }
        into.push_str(&text[at..at + c.len_utf8()]);
        before = Some(c);
    }
}

fn is_space(c: Option<char>) -> bool {
    c.is_none_or(char::is_whitespace)
}

fn is_word(c: Option<char>) -> bool {
    c.is_some_and(char::is_alphanumeric)
}

/// Whether what follows an ampersand makes it a character reference, or could,
/// together with more that follows.
fn is_reference(behind: &str, more: bool) -> bool {
    let end = behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '#').unwrap_or(behind.len());
    if end == behind.len() {
        return more && end < 40;
    }
    end > 0 && behind[end..].starts_with(';')
}

/// A paragraph out of lines that [`text`] has written, whose starts mean nothing:
/// no heading, quotation, list, rule, fence, row of a table or definition.
pub(super) fn paragraph(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    if is_definition(text) {
        written.push('\\');
    }
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            written.push('\n');
        }
        match marker(line) {
            Some(at) if !(number == 0 && written.ends_with('\\')) => {
                written.push_str(&line[..at]);
                written.push('\\');
                written.push_str(&line[at..]);
            }
            _ => written.push_str(line),
        }
    }
    written
}

/// Whether a paragraph begins like the definition of a link's address. What is
/// between the brackets may be code as well, and go over several lines.
fn is_definition(text: &str) -> bool {
    let Some(label) = text.strip_prefix('[') else { return false };
    let mut escaped = false;
    for (at, byte) in label.bytes().enumerate() {
        match byte {
            _ if std::mem::take(&mut escaped) => {}
            b'\\' => escaped = true,
            b'[' => return false,
            b']' => return label[at + 1..].starts_with(':'),
            _ => {}
        }
    }
    false
}

/// Where a backslash keeps the line's start from being markup.
fn marker(line: &str) -> Option<usize> {
    let first = line.chars().next()?;
    let ends = |rest: &str| rest.is_empty() || rest.starts_with([' ', '\t']);
    let only = |set: &[char]| line.chars().all(|c| set.contains(&c));
    match first {
        '#' => {
            let rest = line.trim_start_matches('#');
            (line.len() - rest.len() <= 6 && ends(rest)).then_some(0)
        }
        '>' => Some(0),
        '-' | '+' | '*' if ends(&line[1..]) => Some(0),
        // The line below a heading, or between the rows of a table.
        '-' | '=' | ':' | '|' if only(&['-', '=', ':', '|', ' ', '\t']) => Some(0),
        '~' if line.starts_with("~~~") => Some(0),
        '[' => ["[ ]", "[x]", "[X]"].iter().any(|task| line.strip_prefix(task).is_some_and(ends)).then_some(0),
        ':' if ends(&line[1..]) => Some(0),
        '0'..='9' => {
            let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
            let at = line.len() - rest.len();
            (at <= 9 && rest.starts_with(['.', ')']) && ends(&rest[1..])).then_some(at)
        }
        _ => None,
    }
}

/// Writes a heading's line, at whose end number signs mean nothing.
pub(super) fn heading(line: &str, into: &mut String) {
    let text = line.trim_end_matches('#');
    let closes = text.len() < line.len() && (text.is_empty() || text.ends_with([' ', '\t']));
    into.push_str(text);
    if closes {
        into.push('\\');
    }
    into.push_str(&line[text.len()..]);
}

/// Writes code between as many backticks as it takes. In a table's cell vertical
/// bars are escaped, also in code.
pub(super) fn code(code: &str, bars: bool, into: &mut String) {
    let fence = "`".repeat(longest_run(code) + 1);
    // One space on both sides is taken away again.
    let padded = code.starts_with('`') || code.ends_with('`') || (code.starts_with(' ') && code.ends_with(' '));
    let pad = if padded { " " } else { "" };
    into.push_str(&fence);
    into.push_str(pad);
    if bars {
        into.push_str(&code.replace('|', "\\|"));
    } else {
        into.push_str(code);
    }
    into.push_str(pad);
    into.push_str(&fence);
}

/// The length of the longest run of backticks.
pub(super) fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// An address as it stands between the round brackets of a link.
pub(super) fn target(address: &str, into: &mut String) {
    let bare = balanced(address);
    if !bare {
        into.push('<');
    }
    let mut rest = address.char_indices();
    while let Some((_, c)) = rest.next() {
        match c {
            // Such a character could be read as markup or end the address.
            '<' | '>' | '"' | '`' | '\\' | '|' => percent(c, into),
            _ if c.is_control() || c.is_whitespace() => percent(c, into),
            '&' if is_reference(rest.as_str(), false) => into.push_str("\\&"),
            _ => into.push(c),
        }
    }
    if !bare {
        into.push('>');
    }
}

fn percent(c: char, into: &mut String) {
    use std::fmt::Write as _;
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        let _ = write!(into, "%{byte:02X}");
    }
}

/// Whether each bracket that is opened is closed, as far inside one another as
/// every reader follows.
fn balanced(address: &str) -> bool {
    let mut depth = 0_usize;
    for byte in address.bytes() {
        match byte {
            b'(' => depth += 1,
            b')' if depth == 0 => return false,
            b')' => depth -= 1,
            _ => {}
        }
        if depth > 3 {
            return false;
        }
    }
    depth == 0 && !address.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(raw: &str) -> String {
        let mut inner = String::new();
        text(raw, Place::default(), &mut inner);
        paragraph(&inner)
    }

    #[test]
    fn what_would_be_markup_is_escaped() {
        for (raw, written) in [
            ("<script>alert(1)</script>", "\\<script>alert(1)\\</script>"),
            ("[x](http://a.test)", "[x\\](http://a.test)"),
            ("![x](y)", "\\![x\\](y)"),
            ("[x]: y", "[x\\]: y"),
            ("[^1]", "\\[^1]"),
            ("**b** and *i*", "\\*\\*b\\*\\* and \\*i\\*"),
            ("__init__", "\\_\\_init__"),
            ("`code`", "\\`code\\`"),
            ("&lt; AT&T &#38; &", "\\&lt; AT&T \\&#38; &"),
            ("# not a heading", "\\# not a heading"),
            ("> not a quote", "\\> not a quote"),
            ("- not a list", "\\- not a list"),
            ("1. not a list", "1\\. not a list"),
            ("2024) x", "2024\\) x"),
            ("---", "\\---"),
            ("===", "\\==="),
            ("|---|---|", "\\|---|---|"),
            ("~~~", "\\~~~"),
            ("* * *", "\\* * *"),
            ("[ ] task", "\\[ ] task"),
            ("a\\*b \\d", "a\\\\\\*b \\d"),
        ] {
            assert_eq!(escaped(raw), written, "{raw}");
        }
    }

    #[test]
    fn what_is_only_text_stays_as_it_is() {
        for raw in [
            "2 * 3 = 6, a < b && c > d",
            "snake_case_name and C:\\Users\\x",
            "see [1], (2) and [12].",
            "AT&T #1! 3.14 -5 +5 1.5",
            "a | b",
            "C# and F# ~5 km",
            "\\frac{a}{b}",
            "1.000.000",
        ] {
            assert_eq!(escaped(raw), raw);
        }
    }

    #[test]
    fn code_targets_and_headings() {
        let coded = |text: &str| {
            let mut written = String::new();
            code(text, true, &mut written);
            written
        };
        assert_eq!(coded("a|b"), "`a\\|b`");
        assert_eq!(coded("a`b"), "``a`b``");
        assert_eq!(coded("`"), "`` ` ``");
        assert_eq!(coded(" "), "`   `");
        let linked = |text: &str| {
            let mut written = String::new();
            target(text, &mut written);
            written
        };
        assert_eq!(linked("http://a.test/x_(y)?a=1&b=2"), "http://a.test/x_(y)?a=1&b=2");
        assert_eq!(linked("http://a.test/x_(y"), "<http://a.test/x_(y>");
        assert_eq!(linked("mailto:a b@c.test"), "mailto:a%20b@c.test");
        assert_eq!(linked("http://a.test/?&copy;"), "http://a.test/?\\&copy;");
        let headed = |text: &str| {
            let mut written = String::new();
            heading(text, &mut written);
            written
        };
        assert_eq!((headed("C#"), headed("A #"), headed("#")), ("C#".into(), "A \\#".into(), "\\#".into()));
    }
}
