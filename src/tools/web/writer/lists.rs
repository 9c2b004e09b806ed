//! Lists and the marks of their items.

use super::elements::integer;
use crate::tools::web::html::{Dom, Element, Id};

/// The greatest number that Markdown takes for an item's.
const MAX_NUMBER: i64 = 999_999_999;

/// A list whose items are being written.
pub(super) struct List {
    numbers: Option<Numbers>,
    /// The sign of the items: one of `-`, `*`, `.` and `)`.
    mark: char,
    items: usize,
}

struct Numbers {
    next: i64,
    step: i64,
    style: NumberStyle,
    /// The number of the item that was written last, if Markdown has it.
    last: Option<i64>,
    /// The number of the item that is being written.
    current: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NumberStyle {
    Decimal,
    Letters(bool),
    Roman(bool),
}

/// How an item begins.
pub(super) struct Mark {
    /// The mark of Markdown.
    pub(super) text: String,
    /// What stands before the item's text because Markdown has no such mark.
    pub(super) label: Option<String>,
    /// Whether it may follow a paragraph without an empty line.
    pub(super) tight: bool,
}

impl List {
    /// Begins a list; `after` is the mark of one that has just ended.
    pub(super) fn new(dom: &Dom, id: Id, element: &Element, after: Option<char>) -> Self {
        let numbers = element.is_html("ol").then(|| {
            let reversed = element.attribute("reversed").is_some();
            let start = element.attribute("start").and_then(integer);
            let items = || {
                let items =
                    dom.children(id).filter(|child| dom.element(*child).is_some_and(|child| child.is_html("li")));
                i64::try_from(items.count()).unwrap_or(1)
            };
            let style = match element.attribute("type") {
                Some("a") => NumberStyle::Letters(false),
                Some("A") => NumberStyle::Letters(true),
                Some("i") => NumberStyle::Roman(false),
                Some("I") => NumberStyle::Roman(true),
                _ => NumberStyle::Decimal,
            };
            let next = start.unwrap_or_else(|| if reversed { items() } else { 1 });
            Numbers { next, step: if reversed { -1 } else { 1 }, style, last: None, current: None }
        });
        let is_marked = numbers.as_ref().is_some_and(|numbers| numbers.style == NumberStyle::Decimal);
        let (usual, other) = if is_marked { ('.', ')') } else { ('-', '*') };
        let mark = if after == Some(usual) { other } else { usual };
        Self { numbers, mark, items: 0 }
    }

    pub(super) fn mark(&self) -> char {
        self.mark
    }

    /// The mark of the next item, whose own number counts if it has one. It is
    /// `adjacent` when nothing stands between it and the item before.
    pub(super) fn item(&mut self, own: Option<i64>, nested: bool, adjacent: bool) -> Mark {
        let first = self.items == 0;
        self.items += 1;
        let Some(numbers) = &mut self.numbers else {
            return Mark { text: format!("{} ", self.mark), label: None, tight: !first || nested };
        };
        let number = own.unwrap_or(numbers.next);
        numbers.next = number.saturating_add(numbers.step);
        let continues = adjacent && numbers.last.is_some_and(|last| number == last + 1);
        if numbers.style == NumberStyle::Decimal && (0..=MAX_NUMBER).contains(&number) {
            // Markdown counts by itself: another number begins another list.
            if numbers.last.is_some() && !continues {
                self.mark = if self.mark == '.' { ')' } else { '.' };
            }
            numbers.current = Some(number);
            let tight = continues || (first && nested && number == 1);
            return Mark { text: format!("{number}{} ", self.mark), label: None, tight };
        }
        numbers.current = None;
        let label = match numbers.style {
            NumberStyle::Letters(upper) => letters(number, upper),
            NumberStyle::Roman(upper) => roman(number, upper),
            NumberStyle::Decimal => None,
        };
        let label = label.unwrap_or_else(|| number.to_string());
        Mark { text: "- ".into(), label: Some(format!("{label}.")), tight: !first || nested }
    }
}

impl List {
    /// Ends an item that holds something.
    pub(super) fn end_item(&mut self) {
        if let Some(numbers) = &mut self.numbers {
            numbers.last = numbers.current;
        }
    }
}

fn cased(text: String, upper: bool) -> String {
    if upper { text.to_ascii_uppercase() } else { text }
}

/// a to z, aa, ab and so on.
fn letters(number: i64, upper: bool) -> Option<String> {
    let mut rest = u32::try_from(number).ok().filter(|number| *number > 0)?;
    let mut text = Vec::new();
    while rest > 0 {
        rest -= 1;
        text.push(char::from_u32(u32::from('a') + rest % 26)?);
        rest /= 26;
    }
    Some(cased(text.into_iter().rev().collect(), upper))
}

fn roman(number: i64, upper: bool) -> Option<String> {
    const DIGITS: &[(i64, &str)] = &[
        (1000, "m"),
        (900, "cm"),
        (500, "d"),
        (400, "cd"),
        (100, "c"),
        (90, "xc"),
        (50, "l"),
        (40, "xl"),
        (10, "x"),
        (9, "ix"),
        (5, "v"),
        (4, "iv"),
        (1, "i"),
    ];
    let mut rest = Some(number).filter(|number| (1..4000).contains(number))?;
    let mut text = String::new();
    for (value, digit) in DIGITS {
        while rest >= *value {
            rest -= value;
            text.push_str(digit);
        }
    }
    Some(cased(text, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_roman_numbers() {
        assert_eq!([1, 26, 27, 52, 703].map(|n| letters(n, false).unwrap_or_default()), ["a", "z", "aa", "az", "aaa"]);
        assert_eq!([4, 9, 14, 1999].map(|n| roman(n, true).unwrap_or_default()), ["IV", "IX", "XIV", "MCMXCIX"]);
        assert_eq!((letters(0, false), roman(0, false), roman(4000, false)), (None, None, None));
    }
}
