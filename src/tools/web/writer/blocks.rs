//! What the writer does with single elements.

use super::math::Formula;
use super::{Close, Dom, Element, Id, Kind, MAX_ADDRESS, Role, Writer, elements, escape, math, span, table};

impl Writer<'_> {
    /// Begins a link, if its address is one that may be followed.
    pub(super) fn link(&mut self, id: Id, element: &Element) -> bool {
        let Some(address) = element.attribute("href").and_then(|href| self.address(href)) else { return true };
        if self.counts.heading > 0 && is_permalink(self.dom, id, &address) {
            return false;
        }
        self.inline.open_link(address);
        self.open.push((id, Close::Link));
        true
    }

    /// An address as a link names it, made absolute.
    fn address(&self, href: &str) -> Option<String> {
        let url = self.options.base.join(href.trim()).ok()?;
        let followed = matches!(url.scheme(), "http" | "https" | "mailto" | "tel");
        (followed && url.as_str().len() <= MAX_ADDRESS).then(|| url.into())
    }

    /// Writes the text in place of a picture.
    pub(super) fn picture(&mut self, element: &Element) {
        let alternative = element.attribute("alt").unwrap_or_default();
        let class = element.attribute("class").unwrap_or_default();
        let is_formula = ["mwe-math", "latex", "tex"].iter().any(|name| class.starts_with(name));
        if let Some(block) = &mut self.preformatted {
            block.push_str(alternative);
        } else if is_formula {
            self.inline.tex(math::clean(alternative));
        } else {
            self.inline.apart(alternative, self.style());
        }
    }

    pub(super) fn formula(&mut self, id: Id) {
        let formula = math::formula(self.dom, id);
        match (&mut self.preformatted, formula) {
            (Some(block), Formula::Tex(text) | Formula::Line(text)) => block.push_str(&text),
            (None, Formula::Tex(tex)) => self.inline.tex(tex),
            (None, Formula::Line(text)) => self.inline.apart(&text, self.style()),
        }
    }

    /// A page of frames leads to other pages.
    pub(super) fn frame(&mut self, element: &Element) {
        let name = element.attribute("title").or_else(|| element.attribute("name"));
        let Some(address) = element.attribute("src").and_then(|src| self.address(src)) else { return };
        self.flush();
        let name = name.filter(|name| !name.trim().is_empty()).unwrap_or(&address).to_owned();
        self.inline.open_link(address);
        self.inline.text(&name, self.style());
        self.inline.close_link();
        self.flush();
    }

    /// How a word is read stands behind it in brackets, which most pages bring.
    pub(super) fn reading(&mut self, id: Id) {
        let mut before = std::iter::successors(self.dom.previous(id), |id| self.dom.previous(*id)).take(4);
        let has_bracket = before.find_map(|id| self.dom.element(id)).is_some_and(|element| element.is_html("rp"));
        if !has_bracket {
            self.words("(");
            self.open.push((id, Close::Text(")")));
        }
    }

    /// Inside a block of code only line breaks and exponents count.
    pub(super) fn in_preformatted(&mut self, id: Id, role: Role) {
        let Some(block) = &mut self.preformatted else { return };
        match role {
            Role::Break => block.push('\n'),
            Role::Raised => block.push('^'),
            Role::Lowered => block.push('_'),
            Role::Block | Role::Row | Role::Item | Role::Preformatted => {
                if !block.is_empty() && !block.ends_with('\n') {
                    block.push('\n');
                }
                self.open.push((id, Close::Text("\n")));
            }
            _ => {}
        }
    }

    /// Writes a block of code.
    pub(super) fn code_block(&mut self, id: Id) {
        let code = self.preformatted.take().unwrap_or_default();
        let code = code.trim_end_matches(['\n', ' ', '\t']);
        let code = code.trim_start_matches('\n');
        if code.is_empty() {
            return;
        }
        self.settle_label();
        if !self.options.markdown {
            self.lines.block(code.split('\n'));
            return;
        }
        let fence = "`".repeat(escape::longest_run(code).max(2) + 1);
        let language = elements::language(self.dom, id).unwrap_or_default();
        let first = format!("{fence}{language}");
        let lines = std::iter::once(first.as_str()).chain(code.split('\n')).chain([fence.as_str()]);
        self.lines.block(lines);
    }

    pub(super) fn end_heading(&mut self, level: usize) {
        if self.inline.is_empty() {
            return;
        }
        self.settle_label();
        if !self.options.markdown {
            let text = self.inline.take_plain(Kind::Heading);
            self.lines.block([text.as_str()]);
            return;
        }
        let mut line = "#".repeat(level) + " ";
        escape::heading(&self.inline.take_markdown(Kind::Heading), &mut line);
        self.lines.block([line.as_str()]);
    }

    pub(super) fn end_cell(&mut self, id: Id) {
        self.counts.line -= 1;
        let markdown = self.options.markdown;
        let text = if markdown { self.inline.take_markdown(Kind::Cell) } else { self.inline.take_plain(Kind::Cell) };
        let spans = self.dom.element(id).map(|cell| (span(cell, "colspan"), span(cell, "rowspan")));
        let (columns, rows) = spans.unwrap_or_default();
        if let Some(table) = self.table() {
            table.cell(text, columns, rows);
        }
    }

    pub(super) fn end_table(&mut self) {
        let Some(Some(table)) = self.tables.pop() else { return };
        let lines = if self.options.markdown { table.markdown() } else { table.plain() };
        match lines {
            Ok(lines) if lines.is_empty() => {}
            Ok(lines) => {
                self.settle_label();
                self.lines.block(lines.iter().map(String::as_str));
            }
            Err(table::TooLarge) => self.too_large = true,
        }
    }

    pub(super) fn rule(&mut self) {
        if self.options.markdown {
            self.settle_label();
            // Hyphens behind the mark of an item would be one rule with it.
            let rule = if self.lines.at_mark() { "___" } else { "---" };
            self.lines.block([rule]);
        }
    }
}

/// Whether a link in a heading leads only to that heading: a sign that appears
/// when one points at it.
fn is_permalink(dom: &Dom, id: Id, address: &str) -> bool {
    let mut words = dom.below(id).take(8).filter_map(|id| dom.text(id));
    address.contains('#') && !words.any(|text| text.chars().any(char::is_alphanumeric))
}
