//! Reads JSON of providers that is slightly invalid: an answer that was paid for must
//! not be lost to a lone surrogate or a `NaN`.
//!
//! Repaired are: a byte order mark before the document; bytes that are not UTF-8; control
//! characters and unknown escapes in strings; lone surrogates; `NaN` and `Infinity` in any
//! spelling, and numbers beyond a double, which become `null`. Valid documents are parsed
//! as they are, at no extra cost.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_json::Value;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;
/// Digits that a number in a double's range may have without an exponent.
const LONGEST_NUMBER: usize = 300;

/// Parses a document, repaired if necessary.
///
/// # Errors
/// If it is not JSON even then: the error of the original document.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let error = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    match repair(bytes) {
        Cow::Borrowed(_) => Err(error),
        Cow::Owned(repaired) => serde_json::from_slice(&repaired).map_err(|_| error),
    }
}

/// The document as a strict parser accepts it; borrowed if nothing had to be repaired.
/// One pass; the output has at most six times as many bytes.
pub(super) fn repair(bytes: &[u8]) -> Cow<'_, [u8]> {
    Repair::new(bytes, Lone::Replaced).run()
}

/// A chunk of a stream, whose strings may begin or end with half a surrogate pair.
#[derive(Debug)]
pub(super) struct Part {
    /// Lone surrogates in it are marked, for [`Halves`] and [`settle`].
    pub value: Value,
    /// Whether it has any.
    pub has_halves: bool,
}

/// Parses a chunk of a stream.
///
/// # Errors
/// As [`parse`].
pub(super) fn parse_part(bytes: &[u8]) -> Result<Part, serde_json::Error> {
    let error = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(Part { value, has_halves: false }),
        Err(error) => error,
    };
    let mut repair = Repair::new(bytes, Lone::Marked);
    let repaired = repair.run();
    let value = serde_json::from_slice(&repaired).map_err(|_| error)?;
    Ok(Part { value, has_halves: repair.has_halves })
}

/// Precedes a marked surrogate: a noncharacter, which no text has.
const MARK: char = '\u{10ffff}';
/// Added to a surrogate to mark it, which moves it into the private use area.
const MARKED: u32 = 0x10_0000;

/// The surrogate that follows [`MARK`].
fn marked(letter: char) -> Option<u16> {
    let unit = u16::try_from(u32::from(letter).checked_sub(MARKED)?).ok()?;
    (0xd800..0xe000).contains(&unit).then_some(unit)
}

fn is_high(unit: u16) -> bool {
    (0xd800..0xdc00).contains(&unit)
}

/// The character of a surrogate pair.
fn joined(high: u16, low: u16) -> Option<char> {
    char::decode_utf16([high, low]).next()?.ok().filter(|_| is_high(high))
}

/// Joins surrogate pairs across the deltas of one text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Halves {
    high: Option<u16>,
}

impl Halves {
    /// The next delta. A high surrogate at its end is held back for the next one; lone
    /// ones become U+FFFD. `has_halves` is that of the [`Part`].
    pub(super) fn join<'a>(&mut self, text: &'a str, has_halves: bool) -> Cow<'a, str> {
        if text.is_empty() || (self.high.is_none() && !has_halves) {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            let half = if letter == MARK { letters.clone().next().and_then(marked) } else { None };
            if half.is_some() {
                letters.next();
            }
            if let (Some(high), Some(low)) = (self.high, half)
                && let Some(whole) = joined(high, low)
            {
                self.high = None;
                out.push(whole);
                continue;
            }
            out.extend(self.rest());
            match half {
                Some(half) if is_high(half) => self.high = Some(half),
                Some(_) => out.push(REPLACEMENT),
                None => out.push(letter),
            }
        }
        Cow::Owned(out)
    }

    /// Whether a high surrogate is held back.
    pub(super) fn is_waiting(self) -> bool {
        self.high.is_some()
    }

    /// The end of the text: U+FFFD if a high surrogate is still held back.
    pub(super) fn rest(&mut self) -> Option<char> {
        self.high.take().map(|_| REPLACEMENT)
    }
}

/// Resolves the marks in a text: pairs are joined, lone surrogates become U+FFFD.
pub(super) fn settle(text: &str) -> Cow<'_, str> {
    if !text.contains(MARK) {
        return Cow::Borrowed(text);
    }
    let mut halves = Halves::default();
    let mut settled = halves.join(text, true).into_owned();
    settled.extend(halves.rest());
    Cow::Owned(settled)
}

/// Resolves the marks in all strings of a value.
pub(super) fn settle_value(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(settled) = settle(text) {
                *text = settled;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(settle_value),
        Value::Object(fields) => {
            if fields.keys().any(|name| name.contains(MARK)) {
                let named = std::mem::take(fields).into_iter();
                *fields = named.map(|(name, value)| (settle(&name).into_owned(), value)).collect();
            }
            fields.values_mut().for_each(settle_value);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What becomes of a lone surrogate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lone {
    Replaced,
    Marked,
}

/// A document being repaired, in one pass.
struct Repair<'a> {
    from: &'a [u8],
    lone: Lone,
    /// Whether all of it is UTF-8, so that single characters need no check.
    is_utf8: bool,
    /// The repaired form of everything before `copied`.
    out: Vec<u8>,
    copied: usize,
    has_halves: bool,
}

impl<'a> Repair<'a> {
    fn new(from: &'a [u8], lone: Lone) -> Self {
        let is_utf8 = std::str::from_utf8(from).is_ok();
        Self { from, lone, is_utf8, out: Vec::new(), copied: 0, has_halves: false }
    }

    fn run(&mut self) -> Cow<'a, [u8]> {
        let mut at = 0;
        if self.from.starts_with(BYTE_ORDER_MARK) {
            at = BYTE_ORDER_MARK.len();
            self.replace(0, at, b"");
        }
        while let Some(byte) = self.byte(at) {
            at = match byte {
                b'"' => self.string(at + 1),
                b' ' | b'\t' | b'\n' | b'\r' => at + 1,
                0..b' ' => self.replace(at, at + 1, b" "),
                b'+' | b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => self.word(at),
                _ => at + 1,
            };
        }
        if self.copied == 0 {
            return Cow::Borrowed(self.from);
        }
        self.out.extend_from_slice(&self.from[self.copied..]);
        Cow::Owned(std::mem::take(&mut self.out))
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.from.get(at).copied()
    }

    /// Replaces these bytes; returns where they end.
    fn replace(&mut self, begin: usize, end: usize, by: &[u8]) -> usize {
        self.out.extend_from_slice(&self.from[self.copied..begin]);
        self.out.extend_from_slice(by);
        self.copied = end;
        end
    }

    /// A number, or a literal such as `null`; returns where it ends.
    fn word(&mut self, begin: usize) -> usize {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let length = self.from[begin..].iter().take_while(|byte| is_part(byte)).count();
        let word = &self.from[begin..begin + length];
        let name = word.strip_prefix(b"-").or_else(|| word.strip_prefix(b"+")).unwrap_or(word);
        let is_no_number = [&b"nan"[..], b"inf", b"infinity"].iter().any(|other| name.eq_ignore_ascii_case(other));
        if is_no_number || is_too_large(word) {
            return self.replace(begin, begin + length, b"null");
        }
        begin + length
    }

    /// A string after its opening quote; returns where it ends.
    fn string(&mut self, mut at: usize) -> usize {
        while let Some(byte) = self.byte(at) {
            at = match byte {
                b'"' => return at + 1,
                b'\\' => self.escape(at),
                0..b' ' => self.replace(at, at + 1, format!("\\u{byte:04x}").as_bytes()),
                0x80.. if !self.is_utf8 => self.letter(at),
                _ => at + 1,
            };
        }
        at
    }

    /// An escape; returns where it ends.
    fn escape(&mut self, at: usize) -> usize {
        match self.byte(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at + 2,
            Some(b'u') => match self.escaped_unit(at) {
                Some(unit) if (0xd800..0xe000).contains(&unit) => self.half(at, unit, 6),
                Some(_) => at + 6,
                None => self.replace(at, at + 1, b"\\\\"),
            },
            // The document is cut off.
            None => at + 1,
            Some(_) => self.replace(at, at + 1, b"\\\\"),
        }
    }

    /// The code unit of an escape such as `\u00e9` at this position.
    fn escaped_unit(&self, at: usize) -> Option<u16> {
        let digits = self.from.get(at..at + 6)?.strip_prefix(b"\\u")?;
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok());
        digits.iter().try_fold(0, |unit, byte| Some(unit * 16 + digit(byte)?))
    }

    /// The surrogate that is encoded in three bytes at this position (CESU-8).
    fn written_unit(&self, at: usize) -> Option<u16> {
        match self.from.get(at..at + 3)? {
            [0xed, second @ 0xa0..=0xbf, third @ 0x80..=0xbf] => {
                Some(0xd000 | u16::from(second & 0x3f) << 6 | u16::from(third & 0x3f))
            }
            _ => None,
        }
    }

    /// A surrogate of `length` bytes; returns where it, or its pair, ends.
    fn half(&mut self, at: usize, unit: u16, length: usize) -> usize {
        let next = at + length;
        let escaped = self.escaped_unit(next).map(|unit| (unit, 6));
        if is_high(unit)
            && let Some((low, other)) = escaped.or_else(|| self.written_unit(next).map(|unit| (unit, 3)))
            && let Some(whole) = joined(unit, low)
        {
            let end = next + other;
            if (length, other) == (6, 6) {
                return end;
            }
            return self.replace(at, end, whole.encode_utf8(&mut [0; 4]).as_bytes());
        }
        self.has_halves = true;
        let mut by = String::from(REPLACEMENT);
        if self.lone == Lone::Marked
            && let Some(mark) = char::from_u32(MARKED + u32::from(unit))
        {
            by = [MARK, mark].into_iter().collect();
        }
        self.replace(at, next, by.as_bytes())
    }

    /// A character beyond ASCII, in a text that is not all UTF-8; returns where it ends.
    fn letter(&mut self, at: usize) -> usize {
        if let Some(unit) = self.written_unit(at) {
            return self.half(at, unit, 3);
        }
        let some = &self.from[at..self.from.len().min(at + 4)];
        let (valid, wrong) = match std::str::from_utf8(some) {
            Ok(valid) => (valid, 0),
            Err(error) => {
                let valid = std::str::from_utf8(&some[..error.valid_up_to()]).unwrap_or_default();
                (valid, error.error_len().unwrap_or(some.len()))
            }
        };
        match valid.chars().next() {
            Some(letter) => at + letter.len_utf8(),
            None => self.replace(at, at + wrong, REPLACEMENT.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Whether a number is beyond what a double can hold.
fn is_too_large(word: &[u8]) -> bool {
    let may_be = word.len() > LONGEST_NUMBER || word.iter().any(|byte| matches!(byte, b'e' | b'E'));
    let begins = word.strip_prefix(b"-").unwrap_or(word).first().is_some_and(u8::is_ascii_digit);
    may_be && begins && std::str::from_utf8(word).is_ok_and(|word| word.parse().is_ok_and(f64::is_infinite))
}

#[cfg(test)]
mod tests;
