//! From the tree of a page to what a person or a model reads: Markdown, or text
//! without markup. It walks the tree without recursion, asks its budget on the
//! way, and ends when enough is written.

mod blocks;
mod elements;
mod escape;
mod inline;
mod lines;
mod lists;
mod math;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use url::Url;

use self::elements::{Role, integer, role, span};
use self::inline::{Inline, Kind, Mark, Style};
use self::lines::{Lines, Outer};
use self::lists::List;
use self::table::Table;
use super::budget::Budget;
use super::html::{DOCUMENT, Data, Dom, Element, Id};

/// The longest address of a link.
const MAX_ADDRESS: usize = 8192;

/// How a page is written.
#[derive(Clone, Copy)]
pub(super) struct Options<'a> {
    /// Markdown, or text without markup.
    pub(super) markdown: bool,
    /// What the addresses of links are relative to.
    pub(super) base: &'a Url,
    /// Whether menus are written as well.
    pub(super) navigation: bool,
    /// Characters after which the rest is not looked at.
    pub(super) chars: usize,
}

/// Why nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwritten {
    /// The time was up.
    Stopped,
    /// A table has more cells than are taken.
    TooLarge,
}

/// Writes a page.
pub(super) fn write(dom: &Dom, options: Options<'_>, budget: &Budget) -> Result<String, Unwritten> {
    let mut writer = Writer {
        dom,
        options,
        layout: layout_tables(dom),
        lines: Lines::default(),
        inline: Inline::default(),
        open: Vec::new(),
        lists: Vec::new(),
        tables: Vec::new(),
        label: None,
        preformatted: None,
        counts: Counts::default(),
        item_end: 0,
        too_large: false,
    };
    writer.walk(budget)?;
    writer.flush();
    Ok(writer.lines.into_text())
}

/// Tables that only arrange what is in them: tables with tables inside, with
/// blocks of code, with one column, and those that say so.
fn layout_tables(dom: &Dom) -> HashSet<Id> {
    let mut layout = HashSet::new();
    for id in dom.below(DOCUMENT) {
        let Some(element) = dom.element(id) else { continue };
        let plain = matches!(element.attribute("role"), Some("presentation" | "none"));
        if element.is_html("table") && plain {
            layout.insert(id);
        }
        if !(element.is_html("table") || element.is_html("pre")) {
            continue;
        }
        // Each step up ends at a table that is known already, so all of them
        // together are as many as there are elements.
        let above = std::iter::successors(dom.parent(id), |id| dom.parent(*id));
        for outer in above.filter(|id| dom.element(*id).is_some_and(|element| element.is_html("table"))) {
            if !layout.insert(outer) {
                break;
            }
        }
    }
    layout
}

/// How often the writer is inside of something.
#[derive(Default)]
struct Counts {
    strong: usize,
    emphasis: usize,
    struck: usize,
    code: usize,
    quoted: usize,
    /// Headings, terms and cells, where blocks are no paragraphs.
    line: usize,
    heading: usize,
    /// Items of lists.
    items: usize,
}

/// What an element puts right at its end.
enum Close {
    Block,
    Heading(usize),
    List,
    Item(Option<Outer>),
    Term,
    Quote(Option<Outer>),
    Table,
    Cell,
    Preformatted,
    Code,
    Emphasis,
    Strong,
    Struck,
    Raised(Mark, char),
    Quoted,
    Link,
    Text(&'static str),
}

struct Writer<'a> {
    dom: &'a Dom,
    options: Options<'a>,
    layout: HashSet<Id>,
    lines: Lines,
    inline: Inline,
    open: Vec<(Id, Close)>,
    lists: Vec<List>,
    /// Tables of data; none for one that only arranges.
    tables: Vec<Option<Table>>,
    /// What stands before the first text of an item.
    label: Option<String>,
    preformatted: Option<String>,
    counts: Counts,
    /// How much had been written when the last item of a list ended.
    item_end: usize,
    too_large: bool,
}

impl Writer<'_> {
    fn walk(&mut self, budget: &Budget) -> Result<(), Unwritten> {
        let mut id = DOCUMENT;
        loop {
            if budget.spent() {
                return Err(Unwritten::Stopped);
            }
            if self.enter(id)
                && let Some(child) = self.dom.first(id)
            {
                id = child;
                continue;
            }
            loop {
                self.leave(id);
                if self.too_large {
                    return Err(Unwritten::TooLarge);
                }
                if let Some(next) = self.dom.next(id) {
                    id = next;
                    break;
                }
                match self.dom.parent(id) {
                    Some(parent) => id = parent,
                    None => return Ok(()),
                }
            }
            // No character has more than four bytes.
            if self.lines.len() > self.options.chars.saturating_mul(4) {
                return Ok(());
            }
        }
    }

    /// Begins a node; says whether what is in it is read.
    fn enter(&mut self, id: Id) -> bool {
        let dom = self.dom;
        match dom.data(id) {
            Data::Root => true,
            Data::Text(text) => {
                self.text(text);
                false
            }
            Data::Element(element) => self.element(id, element),
        }
    }

    fn text(&mut self, text: &str) {
        if let Some(block) = &mut self.preformatted {
            let visible =
                |c: &char| matches!(c, '\n' | '\t') || !(c.is_control() || matches!(c, '\u{200b}' | '\u{feff}'));
            block.extend(text.chars().filter(visible));
        } else if self.counts.code > 0 {
            self.inline.code(text);
        } else {
            self.inline.text(text, self.style());
        }
    }

    fn style(&self) -> Style {
        let strong = self.counts.strong > 0 && self.counts.heading == 0;
        match (self.counts.struck > 0, strong, self.counts.emphasis > 0) {
            (true, ..) => Style::Struck,
            (_, true, true) => Style::Both,
            (_, true, false) => Style::Strong,
            (_, false, true) => Style::Em,
            _ => Style::None,
        }
    }

    fn element(&mut self, id: Id, element: &Element) -> bool {
        let role = role(element, self.options.navigation);
        if self.preformatted.is_some() && !matches!(role, Role::Hidden | Role::Math | Role::Picture) {
            self.in_preformatted(id, role);
            return true;
        }
        match role {
            Role::Hidden => return false,
            Role::Inline => {}
            Role::Link => return self.link(id, element),
            Role::Picture => self.picture(element),
            Role::Math => {
                self.formula(id);
                return false;
            }
            Role::Frame => self.frame(element),
            Role::Break => self.line_break(),
            Role::Code => self.close(id, Close::Code, |counts| &mut counts.code),
            Role::Emphasis => self.close(id, Close::Emphasis, |counts| &mut counts.emphasis),
            Role::Strong => self.close(id, Close::Strong, |counts| &mut counts.strong),
            Role::Struck => self.close(id, Close::Struck, |counts| &mut counts.struck),
            Role::Raised | Role::Lowered => {
                let sign = if role == Role::Raised { '^' } else { '_' };
                let mark = self.inline.mark();
                self.open.push((id, Close::Raised(mark, sign)));
            }
            Role::Quoted => {
                self.words(if self.counts.quoted.is_multiple_of(2) { "“" } else { "‘" });
                self.close(id, Close::Quoted, |counts| &mut counts.quoted);
            }
            Role::Reading => self.reading(id),
            Role::Svg => {
                self.words(" ");
                self.open.push((id, Close::Text(" ")));
            }
            _ => self.block(id, element, role),
        }
        true
    }

    /// Begins a block.
    fn block(&mut self, id: Id, element: &Element, role: Role) {
        self.flush();
        let close = match role {
            Role::Preformatted if self.counts.line > 0 => {
                return self.close(id, Close::Code, |counts| &mut counts.code);
            }
            Role::Preformatted => {
                self.preformatted = Some(String::new());
                Close::Preformatted
            }
            Role::Table => {
                let arranges = self.layout.contains(&id) || self.counts.line > 0;
                self.tables.push((!arranges).then(Table::default));
                Close::Table
            }
            Role::Row if self.table().is_some() => {
                if let Some(table) = self.table() {
                    table.row();
                }
                return;
            }
            Role::Cell if self.table().is_some() => return self.close(id, Close::Cell, |counts| &mut counts.line),
            // In a line there is no room for more than its words.
            _ if self.counts.line > 0 => Close::Block,
            Role::Heading(level) => {
                self.counts.heading += 1;
                return self.close(id, Close::Heading(level), |counts| &mut counts.line);
            }
            Role::Term => {
                self.counts.strong += 1;
                return self.close(id, Close::Term, |counts| &mut counts.line);
            }
            Role::List => {
                self.lists.push(List::new(self.dom, id, element, self.lines.after_list()));
                Close::List
            }
            Role::Item => self.item(element),
            Role::Definition => {
                self.settle_label();
                self.counts.items += 1;
                Close::Item(self.lines.item("- ", true))
            }
            Role::Quote => {
                self.settle_label();
                Close::Quote(if self.options.markdown { self.lines.quote() } else { None })
            }
            Role::Rule => {
                self.rule();
                return;
            }
            _ => Close::Block,
        };
        self.open.push((id, close));
    }

    fn item(&mut self, element: &Element) -> Close {
        self.settle_label();
        let nested = self.counts.items > 0;
        self.counts.items += 1;
        let own = element.attribute("value").and_then(integer);
        let Some(list) = self.lists.last_mut() else { return Close::Item(self.lines.item("- ", true)) };
        let mark = list.item(own, nested, self.item_end == self.lines.len());
        // Readers of text look at the numbers only.
        let text = if self.options.markdown { mark.text } else { mark.text.replace(')', ".").replace('*', "-") };
        let outer = self.lines.item(&text, mark.tight);
        self.label = mark.label;
        Close::Item(outer)
    }

    /// Puts an element's end down and counts it.
    fn close(&mut self, id: Id, close: Close, count: impl FnOnce(&mut Counts) -> &mut usize) {
        *count(&mut self.counts) += 1;
        self.open.push((id, close));
    }

    /// The table of data whose rows are being read.
    fn table(&mut self) -> Option<&mut Table> {
        self.tables.last_mut()?.as_mut()
    }

    /// Ends a node.
    fn leave(&mut self, id: Id) {
        let Some((_, close)) = self.open.pop_if(|(open, _)| *open == id) else { return };
        match close {
            Close::Code => self.counts.code -= 1,
            Close::Emphasis => self.counts.emphasis -= 1,
            Close::Strong => self.counts.strong -= 1,
            Close::Struck => self.counts.struck -= 1,
            Close::Raised(mark, sign) => self.inline.raise(mark, sign),
            Close::Quoted => {
                self.counts.quoted -= 1;
                self.words(if self.counts.quoted.is_multiple_of(2) { "”" } else { "’" });
            }
            Close::Link => self.inline.close_link(),
            Close::Text(text) => self.words(text),
            Close::Preformatted => self.code_block(id),
            Close::Heading(level) => {
                self.end_heading(level);
                (self.counts.line, self.counts.heading) = (self.counts.line - 1, self.counts.heading - 1);
            }
            Close::Term => {
                (self.counts.line, self.counts.strong) = (self.counts.line - 1, self.counts.strong - 1);
                self.flush();
            }
            Close::Cell => self.end_cell(id),
            Close::Block => self.flush(),
            Close::Table => {
                self.flush();
                self.end_table();
            }
            Close::List => {
                self.flush();
                if let Some(list) = self.lists.pop() {
                    self.lines.end_list(list.mark());
                }
            }
            Close::Item(outer) => {
                self.flush();
                self.settle_label();
                self.counts.items -= 1;
                if outer.is_none_or(|outer| self.lines.end(outer)) {
                    self.item_end = self.lines.len();
                    if let Some(list) = self.lists.last_mut() {
                        list.end_item();
                    }
                }
            }
            Close::Quote(outer) => {
                self.flush();
                if let Some(outer) = outer {
                    self.lines.end(outer);
                }
            }
        }
    }

    /// Adds words of ours.
    fn words(&mut self, words: &str) {
        self.text(words);
    }

    fn line_break(&mut self) {
        // An empty line is between two paragraphs.
        if self.inline.is_broken() && self.counts.line == 0 {
            self.flush();
        } else {
            self.inline.line_break();
        }
    }

    /// Ends a paragraph; inside a heading or a cell, a line.
    fn flush(&mut self) {
        if self.counts.line > 0 {
            self.inline.line_break();
            return;
        }
        if self.inline.is_empty() {
            return;
        }
        let label = self.label.take().map(|label| label + " ").unwrap_or_default();
        if !self.options.markdown {
            let text = label + &self.inline.take_plain(Kind::Paragraph);
            self.lines.block(text.split('\n'));
            return;
        }
        let text = label + &self.inline.take_markdown(Kind::Paragraph);
        let written = escape::paragraph(&text);
        self.lines.block(written.split('\n'));
    }

    /// Writes the label of an item that has no text behind it.
    fn settle_label(&mut self) {
        if let Some(label) = self.label.take() {
            self.lines.block([label.as_str()]);
        }
    }
}
