//! Blocks under one another, with what stands before each line inside lists and
//! quotations.

/// The longest start of a line. What is nested more deeply stays at its depth:
/// each line would repeat it.
const MAX_PREFIX: usize = 64;

/// What is between a block and the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    Line,
    Blank,
}

/// The lines that have been written.
pub(super) struct Lines {
    text: String,
    /// What each line begins with.
    prefix: String,
    /// What the next line begins with in its place: the mark of a list's item.
    first: Option<String>,
    gap: Gap,
    /// How much of the prefix has been the same since the last line.
    shared: usize,
    /// Which mark the list has that ended directly before.
    after_list: Option<char>,
}

/// What a quotation or an item of a list puts back at its end.
pub(super) struct Outer {
    prefix: usize,
    first: Option<String>,
    gap: Gap,
    start: usize,
}

impl Default for Lines {
    fn default() -> Self {
        let (text, prefix) = (String::new(), String::new());
        Self { text, prefix, first: None, gap: Gap::Line, shared: 0, after_list: None }
    }
}

impl Lines {
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// Writes a block of one or more lines.
    pub(super) fn block<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) {
        let mut begun = false;
        for line in lines {
            if !self.text.is_empty() {
                self.text.push('\n');
            }
            if !begun && !self.text.is_empty() && self.gap == Gap::Blank {
                let blank = self.prefix[..self.shared].trim_end();
                self.text.push_str(blank);
                self.text.push('\n');
            }
            begun = true;
            match self.first.take() {
                Some(first) => self.text.push_str(&first),
                None if line.is_empty() => self.text.push_str(self.prefix.trim_end()),
                None => self.text.push_str(&self.prefix),
            }
            self.text.push_str(line);
        }
        (self.gap, self.shared, self.after_list) = (Gap::Blank, self.prefix.len(), None);
    }

    /// Begins a quotation.
    pub(super) fn quote(&mut self) -> Option<Outer> {
        let outer = self.nest("> ".len())?;
        if let Some(first) = &mut self.first {
            first.push_str("> ");
        }
        self.prefix.push_str("> ");
        Some(outer)
    }

    /// Begins the item of a list; `tight` when no empty line is before it.
    pub(super) fn item(&mut self, mark: &str, tight: bool) -> Option<Outer> {
        let outer = self.nest(mark.len())?;
        // Behind the mark of another item it begins no line.
        if tight && self.first.is_none() {
            self.gap = Gap::Line;
        }
        let mut first = self.first.take().unwrap_or_else(|| self.prefix.clone());
        first.push_str(mark);
        self.first = Some(first);
        self.prefix.extend(std::iter::repeat_n(' ', mark.len()));
        Some(outer)
    }

    fn nest(&mut self, more: usize) -> Option<Outer> {
        if self.prefix.len() + more > MAX_PREFIX {
            return None;
        }
        self.shared = self.shared.min(self.prefix.len());
        Some(Outer { prefix: self.prefix.len(), first: self.first.clone(), gap: self.gap, start: self.text.len() })
    }

    /// Ends a quotation or an item. Says whether something was written in it.
    pub(super) fn end(&mut self, outer: Outer) -> bool {
        self.prefix.truncate(outer.prefix);
        self.shared = self.shared.min(outer.prefix);
        let written = self.text.len() > outer.start;
        if !written {
            (self.first, self.gap) = (outer.first, outer.gap);
        }
        written
    }

    /// Remembers that a list with this mark has ended: one that follows with the
    /// same mark would be read as its continuation.
    pub(super) fn end_list(&mut self, mark: char) {
        self.after_list = Some(mark);
    }

    pub(super) fn after_list(&self) -> Option<char> {
        self.after_list
    }

    /// Whether the next line stands directly behind the mark of an item.
    pub(super) fn at_mark(&self) -> bool {
        self.first.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_stand_apart_and_items_do_not() {
        let mut lines = Lines::default();
        lines.block(["one"]);
        let quote = lines.quote().expect("not deep");
        lines.block(["two", "", "three"]);
        let item = lines.item("- ", false).expect("not deep");
        lines.block(["four"]);
        lines.block(["five"]);
        lines.end(item);
        let empty = lines.item("- ", true).expect("not deep");
        lines.end(empty);
        lines.end(quote);
        lines.block(["six"]);
        assert_eq!(lines.into_text(), "one\n\n> two\n>\n> three\n>\n> - four\n>\n>   five\n\nsix");
    }

    #[test]
    fn marks_stand_behind_one_another() {
        let mut lines = Lines::default();
        let outer = lines.item("- ", false).expect("not deep");
        let inner = lines.item("10. ", false).expect("not deep");
        lines.block(["x", "y"]);
        lines.end(inner);
        lines.end(outer);
        assert_eq!(lines.into_text(), "- 10. x\n      y");
        let mut deep = Lines::default();
        assert!(std::iter::from_fn(|| deep.quote()).count() <= MAX_PREFIX);
    }
}
