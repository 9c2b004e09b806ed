//! Text for people: which known name was probably meant, and values shown so
//! that characters which nobody sees are seen.

use std::fmt;
use std::io;
use std::path::Path;

/// Characters of a value that a message repeats.
const MOST_SHOWN: usize = 160;

/// The known name that was probably meant; `None` where nothing is near.
///
/// Near is a slip of the hand (a letter more, less, another one or two swapped, more of them in longer names),
/// the same last part in another section, also with such a slip, and a name that was not written to its end.
pub fn near<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let rank = |other: &&'a str| distance(&wanted, &other.to_lowercase());
    let ranked = known.into_iter().filter_map(|other| Some((rank(&other)?, other)));
    ranked.min_by_key(|(rank, other)| (*rank, other.len())).map(|(_, other)| other)
}

/// How far a known name is from the wanted one; `None` for too far.
fn distance(wanted: &str, known: &str) -> Option<usize> {
    let length = wanted.chars().count();
    let allowed = match length.max(known.chars().count()) {
        0..3 => 0,
        3..6 => 1,
        6..12 => 2,
        _ => 3,
    };
    // A name alone does not get nearer by what stands before it in all of them.
    let own = |text: &str| text.rsplit(['.', '_']).next().map_or(0, |part| part.chars().count());
    let allowed = allowed.min(own(wanted).max(own(known)).div_ceil(2));
    let edits = strsim::osa_distance(wanted, known);
    if edits <= allowed {
        return Some(edits);
    }
    let is_border = |rest: &str| rest.starts_with(['_', '-']);
    let begun = length >= 3 && known.strip_prefix(wanted).is_some_and(is_border);
    let last = wanted.rsplit_once('.').map_or(wanted, |(_, last)| last);
    let elsewhere = last.len() >= 3 && known.strip_suffix(last).is_some_and(|rest| rest.ends_with(['.', '_']));
    if begun || elsewhere {
        return Some(allowed + 1);
    }
    let other_last = known.rsplit_once('.').map(|(_, last)| last)?;
    (last.len() >= 5 && strsim::osa_distance(last, other_last) <= 1).then_some(allowed + 2)
}

/// `; did you mean "…"?`, or nothing.
#[must_use]
pub fn did_you_mean(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"))
}

/// A value in quotation marks, with what nobody sees written out, and the rest
/// of a long one left out. What may be a key is not repeated.
#[must_use]
pub fn visible(text: &str) -> String {
    if holds_a_key(text) {
        return "(the text of a key or certificate, not shown)".into();
    }
    if text.chars().count() > MOST_SHOWN {
        let begin: String = text.chars().take(MOST_SHOWN).collect();
        return format!("{begin:?} and more");
    }
    format!("{text:?}")
}

/// Whether a text looks like a key or a certificate itself.
#[must_use]
pub fn holds_a_key(text: &str) -> bool {
    ["-----BEGIN", "PRIVATE KEY", "AGE-SECRET-KEY-"].iter().any(|mark| text.contains(mark))
}

/// Reads a text; what is not UTF-8 is an error that says so and repeats nothing.
///
/// # Errors
/// When it cannot be read, or is no text.
pub fn read_utf8(mut from: impl io::Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8: save it as UTF-8"))
}

/// The same of a whole file.
///
/// # Errors
/// When it cannot be read, or is no text.
pub fn read_file(path: &Path) -> io::Result<String> {
    read_utf8(std::fs::File::open(path)?)
}

/// What somebody has put around or into a value without seeing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// It is written in quotation marks.
    Quotes,
    /// It begins or ends with a blank.
    Blank,
    /// It has a character that no one sees, or that ends a line.
    Invisible(char),
    /// It had bytes that are no UTF-8.
    NotText,
}

impl Oddity {
    /// The first thing that is odd about a value.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        if let Some(odd) = text.chars().find(|character| is_invisible(*character)) {
            return Some(if odd == char::REPLACEMENT_CHARACTER { Self::NotText } else { Self::Invisible(odd) });
        }
        if text.starts_with(' ') || text.ends_with(' ') {
            return Some(Self::Blank);
        }
        let quote = |c: char| matches!(c, '"' | '\'' | '`' | '\u{ab}' | '\u{bb}' | '\u{2018}'..='\u{201f}');
        (text.starts_with(quote) || text.ends_with(quote)).then_some(Self::Quotes)
    }
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quotes => f.write_str(
                "quotation marks are part of it: remove them (docker run --env-file keeps them, a shell does not)",
            ),
            Self::Blank => f.write_str("a blank at its beginning or end is part of it: remove it"),
            Self::Invisible('\r') => {
                f.write_str("it has a carriage return: save the file that it comes from with Unix line ends")
            }
            Self::Invisible('\n') => f.write_str("it has a line break: write it on one line"),
            Self::Invisible('\t') => f.write_str("it has a tab: remove it"),
            Self::Invisible(character) => {
                write!(f, "it has a character that is not visible (U+{:04X}): remove it", u32::from(*character))
            }
            Self::NotText => f.write_str("it has bytes that are not UTF-8: write it in UTF-8"),
        }
    }
}

/// What is not printed, or looks like something else: control characters, other
/// white space than the blank, marks of width zero and of direction.
fn is_invisible(character: char) -> bool {
    let blank = character.is_whitespace() && character != ' ';
    let hidden = matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffd}' | '\u{e0000}'..='\u{e007f}');
    character.is_control() || blank || hidden
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KNOWN: [&str; 9] = [
        "server.listen",
        "server.body_bytes",
        "auth.admin_key",
        "jobs.queue",
        "data.dir",
        "tls.cert_file",
        "acme.domains",
        "log.level",
        "log.format",
    ];

    #[test]
    fn only_what_is_near_is_proposed() {
        for (wrong, meant) in [
            ("server.listn", "server.listen"),
            ("server.body_byte", "server.body_bytes"),
            ("jobz.queue", "jobs.queue"),
            ("auth.admin_kee", "auth.admin_key"),
            ("server.admin_key", "auth.admin_key"),
            ("tls.cert", "tls.cert_file"),
            ("acme.domain", "acme.domains"),
            ("Log.Levle", "log.level"),
            ("tls.lissten", "server.listen"),
        ] {
            assert_eq!(near(wrong, KNOWN), Some(meant), "{wrong}");
        }
        for far in ["server.port", "cluster.nodes", "log.color", "x", "", "server", "tls.ciphers", "jobs.dir2ction"] {
            assert_eq!(near(far, KNOWN), None, "{far}");
        }
        let verbs = ["serve", "status", "job", "key", "tenant"];
        assert_eq!(near("srve", verbs), Some("serve"));
        assert_eq!(near("statsu", verbs), Some("status"));
        for far in ["run", "start", "frobnicate", "keyboard"] {
            assert_eq!(near(far, verbs), None, "{far}");
        }
        assert_eq!(near("AGENTD_DATADIR", ["AGENTD_DATA_DIR", "AGENTD_LOG_LEVEL"]), Some("AGENTD_DATA_DIR"));
        assert_eq!(near("AGENTD_FOO", ["AGENTD_DATA_DIR", "AGENTD_LOG_LEVEL"]), None);
    }

    #[test]
    fn what_nobody_sees_is_found_and_written_out() {
        for (text, odd, shown) in [
            ("\"/data\"", Oddity::Quotes, r#""\"/data\"""#),
            ("'/data'", Oddity::Quotes, "\"'/data'\""),
            ("/data\r", Oddity::Invisible('\r'), r#""/data\r""#),
            ("/data\n", Oddity::Invisible('\n'), r#""/data\n""#),
            ("\t/data", Oddity::Invisible('\t'), r#""\t/data""#),
            ("/data ", Oddity::Blank, "\"/data \""),
            (" /data", Oddity::Blank, "\" /data\""),
            ("/da\u{200b}ta", Oddity::Invisible('\u{200b}'), r#""/da\u{200b}ta""#),
            ("/da\u{a0}ta", Oddity::Invisible('\u{a0}'), r#""/da\u{a0}ta""#),
            ("\u{feff}/data", Oddity::Invisible('\u{feff}'), r#""\u{feff}/data""#),
            ("\u{201c}/data\u{201d}", Oddity::Quotes, "\"\u{201c}/data\u{201d}\""),
            ("/d\u{fffd}", Oddity::NotText, "\"/d\u{fffd}\""),
        ] {
            assert_eq!(Oddity::of(text), Some(odd), "{text:?}");
            assert_eq!(visible(text), shown);
        }
        for plain in ["/srv/my data", "/srv/Büro", "/srv/日本", "it's", "a\"b", ""] {
            assert_eq!(Oddity::of(plain), None, "{plain:?}");
        }
    }

    #[test]
    fn what_is_no_utf8_is_not_repeated() {
        let said = read_utf8(&b"caf\xe9"[..]).expect_err("no text").to_string();
        assert_eq!(said, "it is not UTF-8: save it as UTF-8");
        assert_eq!(read_utf8("café".as_bytes()).expect("text"), "café");
    }

    #[test]
    fn keys_are_not_repeated_and_long_values_are_cut() {
        assert!(!visible("-----BEGIN PRIVATE KEY-----MC4CAQ").contains("MC4"));
        assert!(!visible("AGE-SECRET-KEY-1ABC").contains("1ABC"));
        assert!(visible(&"x".repeat(10_000)).len() < 200);
    }

    proptest! {
        #[test]
        fn a_known_name_is_nearest_to_itself(place in 0..KNOWN.len()) {
            prop_assert_eq!(near(KNOWN[place], KNOWN), Some(KNOWN[place]));
        }

        #[test]
        fn no_text_makes_it_stumble(text in "\\PC{0,40}", other in "\\PC{0,40}") {
            let _ = near(&text, [other.as_str()]);
            let _ = (Oddity::of(&text), visible(&text));
        }
    }
}
