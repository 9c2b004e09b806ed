//! Addresses in a text that people write: where each begins and, what is harder,
//! where it ends.

use std::ops::Range;

/// Addresses of the web in a text, each once, in their order.
pub(super) fn find(text: &str) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for place in places(text) {
        let address = &text[place];
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// Where addresses stand in a text.
pub(super) fn places(text: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    for part in parts(text) {
        let mut start = part.start;
        while let Some(at) = text[start..part.end].find("://").map(|at| start + at) {
            let from = at - scheme(&text[start..at]).len();
            let end = at + end(&text[at..part.end]);
            if from < at && has_host(&text[from..end]) {
                places.push(from..end);
            }
            // What is behind the end is text again, and may hold the next one.
            start = end;
        }
    }
    places
}

/// The scheme that a text ends with; empty when it ends with none.
fn scheme(text: &str) -> &str {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let word = &text[text.trim_end_matches(is_part).len()..];
    word.trim_start_matches(|c: char| !c.is_ascii_alphabetic())
}

/// The parts of a text that no address goes beyond.
fn parts(text: &str) -> Vec<Range<usize>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let mut rest = text.char_indices();
    while let Some((at, c)) = rest.next() {
        if !matches!(c, '(' | ')' | '[' | ']') && ends(c, rest.as_str()) {
            parts.push(start..at);
            start = at + c.len_utf8();
        }
    }
    parts.push(start..text.len());
    parts
}

fn has_host(address: &str) -> bool {
    address
        .split_once("://")
        .is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '[' | '/')))
}

/// Where an address ends whose scheme is left out here, when some text follows;
/// never before its host begins.
fn end(text: &str) -> usize {
    let authority = "://".len();
    let (mut round, mut square, mut end) = (0_usize, 0_usize, text.len());
    let mut rest = text[authority..].char_indices();
    while let Some((at, c)) = rest.next() {
        let is_end = match c {
            '(' => {
                round += 1;
                false
            }
            ')' if round > 0 => {
                round -= 1;
                false
            }
            '[' => {
                square += 1;
                false
            }
            ']' if square > 0 => {
                square -= 1;
                false
            }
            _ => ends(c, rest.as_str()),
        };
        if is_end {
            end = authority + at;
            break;
        }
    }
    authority + without_punctuation(&text[authority..end.max(authority)]).len()
}

/// Whether an address ends before a character, for which brackets are no reason
/// here.
fn ends(c: char, behind: &str) -> bool {
    match c {
        // Between two addresses.
        ',' | ';' => begins_another(behind),
        // A dash between two words may be part of a page's name.
        '–' => !behind.starts_with(char::is_alphanumeric),
        _ => ends_everywhere(c),
    }
}

fn begins_another(text: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| text.get(..scheme.len()).is_some_and(|it| it.eq_ignore_ascii_case(scheme)))
}

/// An address without what ends the sentence that it stands in.
fn without_punctuation(address: &str) -> &str {
    let mut address = address;
    loop {
        let trimmed = address.trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', '*', '(', '[', '&', '–']);
        // Brackets that have been opened inside stay.
        let open = |open: char, close: char| trimmed.matches(open).count() < trimmed.matches(close).count();
        let unpaired = (trimmed.ends_with(')') && open('(', ')')) || (trimmed.ends_with(']') && open('[', ']'));
        let trimmed = if unpaired { &trimmed[..trimmed.len() - 1] } else { trimmed };
        if trimmed.len() == address.len() {
            return address;
        }
        address = trimmed;
    }
}

/// Characters that are part of no address: white space, control and format
/// characters, brackets, quotes and the punctuation of all scripts. Letters,
/// digits, signs and pictures of any script are.
fn ends_everywhere(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '<' | '>' | '"' | '`' | '{' | '}' | '|' | '\\' | '^' | ')' | ']')
        || is_format(c)
        || is_punctuation(c)
}

/// Characters that only steer how others are shown.
fn is_format(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Punctuation outside ASCII. What stands within words is none: the middle dots
/// of Catalan and Japanese, and hyphens.
fn is_punctuation(c: char) -> bool {
    matches!(c,
        '¡' | '§' | '«' | '¶' | '»' | '¿'
        // Greek, Armenian, Hebrew, Arabic, Syriac
        | '\u{37e}' | '\u{387}' | '\u{55a}'..='\u{55f}' | '\u{589}' | '\u{5be}' | '\u{5c0}' | '\u{5c3}' | '\u{5c6}'
        | '\u{5f3}' | '\u{5f4}' | '\u{60c}' | '\u{60d}' | '\u{61b}' | '\u{61d}'..='\u{61f}' | '\u{66a}'..='\u{66d}'
        | '\u{6d4}' | '\u{700}'..='\u{70d}'
        // Devanagari, Thai, Tibetan, Burmese, Georgian, Ethiopic, Khmer, Mongolian
        | '\u{964}' | '\u{965}' | '\u{970}' | '\u{e4f}' | '\u{e5a}' | '\u{e5b}' | '\u{f04}'..='\u{f12}'
        | '\u{f3a}'..='\u{f3d}' | '\u{104a}'..='\u{104f}' | '\u{10fb}' | '\u{1360}'..='\u{1368}' | '\u{166e}'
        | '\u{17d4}'..='\u{17d6}' | '\u{17d8}'..='\u{17da}' | '\u{1800}'..='\u{180a}'
        // Dashes, quotes, ellipses, primes
        | '\u{2014}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{2308}'..='\u{230b}' | '\u{2329}' | '\u{232a}'
        | '\u{2768}'..='\u{2775}' | '\u{27e6}'..='\u{27ef}' | '\u{2983}'..='\u{2998}' | '\u{2e00}'..='\u{2e5d}'
        // Chinese, Japanese, Korean, and the wide forms of ASCII
        | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301f}' | '\u{3030}' | '\u{303d}'
        | '\u{fe10}'..='\u{fe19}' | '\u{fe30}'..='\u{fe6b}' | '\u{ff01}'..='\u{ff0a}' | '\u{ff0c}'..='\u{ff0f}'
        | '\u{ff1a}'..='\u{ff20}' | '\u{ff3b}'..='\u{ff40}' | '\u{ff5b}'..='\u{ff64}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_found_in_brackets_and_before_punctuation() {
        let goal = "Compare <http://a.test/x>, [this](https://b.test/y_(z)) and (http://c.test/q?a=1&b=2). \
                    See http://a.test/x! HTTPS://D.test/ö\n\"http://e.test\"";
        assert_eq!(
            find(goal),
            ["http://a.test/x", "https://b.test/y_(z)", "http://c.test/q?a=1&b=2", "HTTPS://D.test/ö", "http://e.test"]
        );
        assert_eq!(find("nothing at example.com or a@b.test"), Vec::<&str>::new());
    }

    #[test]
    fn what_is_no_part_of_an_address_ends_it() {
        for end in [
            "。",
            "，",
            "、",
            "；",
            "：",
            "！",
            "？",
            "）",
            "」",
            "』",
            "】",
            "》",
            "〉",
            "］",
            "｝",
            "（",
            "「",
            "．",
            "…",
            "—",
            "–",
            "”",
            "’",
            "»",
            "›",
            "“",
            "„",
            "«",
            "‘",
            "‹",
            "\"",
            "'",
            "`",
            ">",
            "<",
            "}",
            "{",
            "|",
            "\\",
            "^",
            ")",
            "]",
            "，と",
            "\u{200b}",
            "\u{200c}",
            "\u{200e}",
            "\u{2060}",
            "\u{feff}",
            "\u{ad}",
            "\u{202c}",
            "\u{a0}",
            "\u{3000}",
            "\t",
            "\n",
            ".",
            ",",
            ";",
            ":",
            "!",
            "?",
            "...",
            "?!",
            ").",
            "),",
            "].",
            "**",
            "؟",
            "،",
            "।",
            "。と言う",
            "”と",
            "」と",
        ] {
            for address in ["http://a.test/x", "http://a.test", "http://a.test/?q=1", "http://a.test/é"] {
                assert_eq!(find(&format!("see {address}{end} then")), [address], "{end:?}");
                assert_eq!(find(&format!("see {address}{end}")), [address], "{end:?}");
            }
        }
    }

    #[test]
    fn two_addresses_beside_one_another_are_two() {
        for between in [",", ";", ", ", "、", "|", "。", "\u{200b}", ",,", "）（", "\"\"", "><", ")(", "‘"] {
            let text = format!("http://a.test/x{between}https://b.test/y");
            assert_eq!(find(&text), ["http://a.test/x", "https://b.test/y"], "{between:?}");
        }
        assert_eq!(find("http://a.test,http://a.test,HTTP://b.test"), ["http://a.test", "HTTP://b.test"]);
    }

    /// A goal may be this long, and no part of it may be looked at for every
    /// address before it.
    #[test]
    fn long_goals_are_read_once() {
        const GOAL: usize = 64 << 10;
        for (piece, found) in [
            ("http://a.test/,", 1),
            ("http://a.test/)", 1),
            ("http://a.test/\u{200b}", 1),
            ("http://-", 0),
            ("http://", 1),
            (",", 0),
            ("http://a.test/(", 1),
        ] {
            let goal = piece.repeat(GOAL / piece.len());
            assert_eq!(find(&goal).len(), found, "{piece}");
        }
    }

    #[test]
    fn what_is_part_of_an_address_stays() {
        for address in [
            "https://en.wikipedia.org/wiki/Heron_(bird)",
            "https://ja.wikipedia.org/wiki/ジョン・レノン",
            "https://de.wikipedia.org/wiki/Köln–Bonn",
            "http://例え.テスト/パス",
            "http://müller.example/straße?q=ä#ö",
            "http://a.test/x,y;z=1",
            "http://a.test/?a[]=1&b[x]=2",
            "http://a.test/a.b?c=d!e",
            "http://a.test/🦀/™",
            "http://[::1]:8080/x",
            "http://web.archive.org/web/2020/http://b.test/",
            "http://a.test/?next=http://b.test/",
            "http://a.test/col·lecció",
            "http://a.test/it's",
            "http://127.0.0.1:8080/x",
            "http://a.test/x-",
            "http://a.test/_x_",
            "http://a.test/~x/$1+2@3=4%20",
        ] {
            assert_eq!(find(&format!("see {address} and")), [address]);
            assert_eq!(find(&format!("（{address}）")), [address]);
        }
    }

    #[test]
    fn a_scheme_alone_is_no_address() {
        for text in ["http://", "http://。", "http:// x", "see https://, then", "http://\u{200b}x"] {
            assert_eq!(find(text), Vec::<&str>::new(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn addresses_are_parts_of_the_text_in_its_order(text in "(?s).{0,80}|(https?://|[a-z]{1,3}\\.test|[/(),;。\u{200b}é「 ]){0,30}") {
            let mut before = 0;
            for place in places(&text) {
                prop_assert!(place.start >= before && place.end > place.start);
                let goes_beyond = text[place.clone()].contains(['。', '「', ' ', '\u{200b}']);
                prop_assert!(!goes_beyond);
                before = place.end;
            }
        }
    }
}
