//! Where a sentence ends. The rules of Unicode find the places where one may
//! end; here is what they cannot know: abbreviations, dates, initials, numbers
//! and addresses, after which it goes on. In doubt it goes on: two sentences in
//! one quote are better than half of one.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation as _;

use super::months::is_month;
use super::sentences::HIDDEN;
use super::words::{Abbreviation, abbreviation, is_german_start};

/// Characters of one sentence. What goes on longer, such as a text without any
/// punctuation, is cut.
const MAX_CHARS: usize = 500;
/// Bytes around a full stop that are looked at.
const LOOKED_AT: usize = 120;

/// The sentences of a paragraph as ranges without white space around them.
pub(super) fn split(text: &str) -> Vec<Range<usize>> {
    let german = is_german(text);
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (start, piece) in text.split_sentence_bound_indices() {
        let end = start + piece.len();
        match ranges.last_mut() {
            Some(last) if goes_on(&text[last.clone()], &text[start..], german) => last.end = end,
            _ => ranges.push(start..end),
        }
    }
    ranges.into_iter().flat_map(|range| cut(text, range)).filter_map(|range| trimmed(text, range)).collect()
}

/// Whether what looks like a whole sentence goes on with what follows.
fn goes_on(sentence: &str, next: &str, german: bool) -> bool {
    let next = next.trim_start_matches(HIDDEN);
    let spaced = sentence.ends_with(char::is_whitespace) || next.starts_with(char::is_whitespace);
    let next = start(next.trim_start());
    let sentence = sentence.trim_end_matches(|c: char| c.is_whitespace() || c == HIDDEN);
    let Some(first) = next.chars().next() else { return false };
    // Those that write without spaces end a quotation and go on behind it.
    if sentence.ends_with(['」', '』', '”', '）']) && matches!(first, '\u{3041}'..='\u{309f}') {
        return true;
    }
    let end = sentence.trim_end_matches(is_closer);
    // `a.b?c=d!e`, `Yahoo!7`: nothing ends inside a word.
    if !spaced && end.ends_with(['.', '!', '?']) && (first.is_ascii() || first.is_lowercase() || first.is_uppercase()) {
        return true;
    }
    // `“Where?” he asked`, `… and then`
    if next.chars().find(|c| !is_opener(*c)).is_some_and(char::is_lowercase) {
        return true;
    }
    // `words [...] More words`
    if sentence.len() > end.len() {
        let left_out = end.trim_end_matches(['.', '…']);
        return left_out.len() < end.len() && left_out.ends_with(['[', '(']);
    }
    let Some(before) = end.strip_suffix('.') else { return false };
    after_full_stop(before, next, german)
}

/// As much of a text as is looked at, so that all of it together stays linear.
fn start(text: &str) -> &str {
    &text[..text.floor_char_boundary(LOOKED_AT)]
}

/// Whether a sentence goes on behind a full stop.
fn after_full_stop(sentence: &str, next: &str, german: bool) -> bool {
    let before = &sentence[sentence.ceil_char_boundary(sentence.len().saturating_sub(LOOKED_AT))..];
    let is_break = |c: char| c.is_whitespace() || is_opener(c) || matches!(c, '/' | '–' | '—');
    let at = before.rfind(is_break).map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
    let (earlier, word) = before.split_at(at);
    let next_word =
        next.split(|c: char| c.is_whitespace() || matches!(c, ',' | ')' | ';' | ':')).next().unwrap_or_default();
    if word.is_empty() {
        return false;
    }
    if word.chars().all(|c| c.is_ascii_digit()) {
        // `1. Open the door`, `1. 2. 2024`, `3. März`, `2. Weltkrieg`
        let ordinal = word.len() <= 2 && german && next.starts_with(char::is_uppercase) && !is_german_start(next_word);
        return (earlier.trim().is_empty() && before.len() == sentence.len())
            || next.starts_with(|c: char| c.is_ascii_digit())
            || is_month(next_word)
            || (ordinal && !after_number_word(earlier));
    }
    // `J. R. R. Tolkien`, `U.S. Senate`, `z.B.`, `J.-C.`
    let has_case = |c: char| c.is_uppercase() || c.is_lowercase();
    let mut letters = word.split(['.', '-', '‑']);
    if letters.all(|letter| letter.chars().count() == 1 && letter.chars().all(has_case)) {
        let single_small = word.chars().count() == 1 && word.chars().all(char::is_lowercase);
        return !single_small || small_letter(earlier, next_word);
    }
    match abbreviation(word) {
        Some(Abbreviation::Always) => true,
        Some(Abbreviation::BeforeNumber) => next_word.starts_with(|c: char| c.is_ascii_digit()) || is_roman(next_word),
        Some(Abbreviation::BeforeName) => next.starts_with(char::is_uppercase),
        None => false,
    }
}

/// Whether a small letter with a full stop is one of several, such as in `z. B.`,
/// `p. ex.` or `и т. д.`, or stands before a number.
fn small_letter(earlier: &str, next: &str) -> bool {
    const SECOND: &[&str] = &["ex", "chr", "eks", "all", "ext", "uu", "el", "fl", "ev"];
    let bare = next.trim_end_matches(['.', ',', ';']);
    let one = |text: &str| text.chars().count() == 1 && text.chars().all(char::is_alphabetic);
    let chained = || {
        let last = earlier.trim_end().rsplit(char::is_whitespace).next().unwrap_or_default();
        last.strip_suffix('.').is_some_and(one)
    };
    (next.ends_with('.') && one(bare))
        || SECOND.contains(&bare.to_lowercase().as_str())
        || next.starts_with(|c: char| c.is_ascii_digit())
        || chained()
}

/// `Kapitel 3. Danach`: the number belongs to the word before it.
fn after_number_word(earlier: &str) -> bool {
    const WORDS: &[&str] =
        &["kapitel", "seite", "band", "abbildung", "tabelle", "nummer", "absatz", "artikel", "punkt", "platz"];
    let last = earlier.trim_end().rsplit(char::is_whitespace).next().unwrap_or_default();
    WORDS.contains(&last.to_lowercase().as_str())
}

fn is_roman(word: &str) -> bool {
    let word = word.trim_end_matches(['.', ',']);
    !word.is_empty() && word.chars().all(|c| "IVXLCDM".contains(c))
}

/// Whether a paragraph is written in a language that writes nouns with capitals
/// and ordinal numbers with a full stop.
fn is_german(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "auch", "auf", "das", "dem", "den", "der", "ein", "eine", "es", "ist", "im", "mit", "nicht", "sich", "und",
        "von", "wurde", "zu",
    ];
    let start = &text[..text.floor_char_boundary(2_000)];
    let words = start.split(|c: char| !c.is_alphabetic()).map(str::to_lowercase);
    start.contains(['ä', 'ö', 'ü', 'ß']) || words.filter(|word| WORDS.contains(&word.as_str())).take(2).count() == 2
}

fn is_closer(c: char) -> bool {
    matches!(c, '"' | '\'' | ')' | ']' | '}' | '”' | '’' | '»' | '›' | '“' | '*' | '_' | '」' | '』' | '）')
}

fn is_opener(c: char) -> bool {
    matches!(c, '"' | '\'' | '(' | '[' | '{' | '“' | '‘' | '„' | '‚' | '«' | '‹' | '»' | '*' | '_' | '¿' | '¡')
}

/// Pieces of at most [`MAX_CHARS`], between words where there are any and not
/// behind a number or an abbreviation. An address is not cut.
fn cut(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = range.start;
    while let Some((over, _)) = text[start..range.end].char_indices().nth(MAX_CHARS) {
        let piece = &text[start..start + over];
        let spaces = || piece.rmatch_indices(char::is_whitespace).map(|(at, _)| at).filter(|at| *at > 0);
        let good = |at: &usize| !piece[..*at].ends_with(|c: char| c == '.' || c.is_numeric());
        let end = match spaces().take(20).find(good).or_else(|| spaces().next()) {
            Some(at) => start + at,
            None if piece.contains("://") => {
                let rest = &text[start + over..range.end];
                start + over + rest.find(char::is_whitespace).unwrap_or(rest.len())
            }
            None => start + over,
        };
        pieces.push(start..end);
        start = end;
    }
    pieces.push(start..range.end);
    pieces
}

fn trimmed(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let is_nothing = |c: char| c.is_whitespace() || c == HIDDEN;
    let piece = &text[range.clone()];
    let start = range.start + (piece.len() - piece.trim_start_matches(is_nothing).len());
    let end = start + piece.trim_matches(is_nothing).len();
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paragraph that these sentences make is split into them again.
    #[track_caller]
    fn assert_split(sentences: &[&str]) {
        let text = sentences.join(" ");
        let found: Vec<_> = split(&text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, sentences);
    }

    #[test]
    fn dates_are_not_cut() {
        for sentence in [
            "Am 3. März 2024 begann es.",
            "Der Vertrag vom 1. 2. 2024 gilt.",
            "Le 1. janvier est férié.",
            "On Jan. 5 it began.",
            "Dne 3. ledna to začalo.",
            "Den 17. Mai er fri.",
            "Es geschah am 24. Dez. 1999 in Wien.",
            "Geboren am 5. 12. in Graz.",
            "The file of 2024. 05. 03. is kept.",
            "Im 19. Jahrhundert war das so.",
            "Se alkoi 3. tammikuuta 2024 Helsingissä.",
            "A 2024. január 3. napján kezdődött.",
            "W dniu 3. maja 1791 uchwalono ją.",
            "Começou em 3 de jan. 2024 em Lisboa.",
            "Der 2. Weltkrieg endete 1945.",
        ] {
            assert_split(&[sentence, "Es war gut."]);
        }
    }

    #[test]
    fn abbreviations_are_not_cut() {
        for sentence in [
            "Vögel, z. B. Reiher, stehen still.",
            "Vögel, z.B. Reiher, stehen still.",
            "Das ist, d. h. Es bleibt so, u. a. Heute.",
            "See e.g. Smith for more.",
            "See e. g. Smith, i. e. The author.",
            "Dr. Schmidt und Prof. Dr. Meier kamen.",
            "Des oiseaux, p. ex. Les hérons, restent.",
            "M. Dupont et Mme. Durand sont venus.",
            "Ca. Hundert kamen, ca. Zweihundert nicht.",
            "Siehe Nr. 5 und Abs. 3.",
            "See No. 5 and Fig. III of Vol. 2.",
            "Smith vs. Jones was heard.",
            "El Sr. García y la Dra. López llegaron.",
            "Nell'art. 5 e a pag. 3 si legge.",
            "Zie bijv. Amsterdam of blz. 3.",
            "Se t. ex. Oslo och s. 12.",
            "См. рис. 5 и т. д. Это важно.",
            "Eläimiä ovat esim. Hauki, vrt. Ahven ja ns. Kala.",
            "A madarak, pl. Gém, vö. Gólya, kb. Száz.",
            "O Sr. Silva e a Dra. Costa chegaram à Av. Brasil.",
            "Fugle, f.eks. Hejrer, jf. Storke, kl. 12 i dag.",
            "Se bl.a. Oslo, evt. Bergen, nr. 5.",
            "Ptáci, tzv. Volavky, č. 5 a mj. Čápi.",
            "Viz např. Praha a str. 5.",
            "Zob. np. Warszawa oraz str. 7.",
            "Books, maps etc. Are sold here.",
            "It is at St. Olav in Mt. Vernon with Smith Inc. Ltd. of Ohio.",
            "In the U.S. Senate of Washington D.C. Friends met.",
            "Um 50 v. Chr. War es so.",
        ] {
            assert_split(&[sentence, "Then it ended."]);
        }
        assert_split(&["He said no.", "Then he left."]);
        assert_split(&["It sat.", "The art.", "They ran."]);
    }

    #[test]
    fn numbers_initials_and_addresses_are_not_cut() {
        for sentence in [
            "Pi is 3.14 and 1.000.000 is a million in v1.2.3 of it.",
            "J. R. R. Tolkien and J.R.R. Tolkien are one.",
            "George W. Bush met A. Merkel.",
            "Look at http://example.com/a.b?c=d!e for more.",
            "Look at example.com/a.b?c=D!E.F for more.",
            "Ask Yahoo!7 or write to a.b@c.D today.",
            "Well ... maybe, he said … and left.",
            "The text [...] Goes on (...) And on.",
            "“Where to?” he asked.",
            "„Wohin?“ fragte er.",
            "1. Open the door.",
        ] {
            assert_split(&[sentence, "Then it ended."]);
        }
    }

    #[test]
    fn sentences_end_where_they_end() {
        assert_split(&["It was in 1999.", "Then it ended.", "He scored 3.", "She won!", "Why?", "“Because.”", "Good."]);
        assert_split(&["Er las Kapitel 3.", "Danach schlief er.", "Es waren 12.", "Der Rest kam und ging."]);
        let japanese = "「行く。」と言った。本当？はい。";
        let found: Vec<_> = split(japanese).into_iter().map(|range| &japanese[range]).collect();
        assert_eq!(found, ["「行く。」と言った。", "本当？", "はい。"]);
    }

    #[test]
    fn what_is_too_long_is_cut_between_words() {
        let text = format!("{}3 000 {}", "word ".repeat(98), "word ".repeat(40));
        let pieces: Vec<_> = split(&text).into_iter().map(|range| text[range].to_owned()).collect();
        assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.chars().count() <= MAX_CHARS));
        assert!(pieces.iter().any(|piece| piece.contains("3 000")), "{pieces:?}");
        let address = format!("http://a.test/{}", "x".repeat(600));
        assert_eq!(split(&format!("{address} then")).len(), 2);
    }
}
