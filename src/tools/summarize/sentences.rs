//! From a document to its sentences, each with the place it was found at.
//!
//! Documents are read as Markdown, since that is what pages are turned into;
//! plain text is Markdown too. Sentences are looked for in the readable text of
//! a paragraph, without markup and line ends, and their places in the source
//! are kept beside it.

use std::ops::Range;

use super::bounds::split;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// A sentence.
#[derive(Debug)]
pub(super) struct Sentence {
    /// Bytes of the source that it stands in.
    pub(super) place: Range<usize>,
    /// What it says, on one line and without markup.
    pub(super) text: String,
}

/// Every sentence of a document, in its order. Headings, code, tables, pictures
/// and lists of links hold none; a document of nothing else is read as plain
/// text, for something is better than nothing.
pub(super) fn sentences(source: &str) -> Vec<Sentence> {
    let found = of_markdown(source);
    if found.is_empty() { of_plain_text(source) } else { found }
}

fn of_markdown(source: &str) -> Vec<Sentence> {
    let mut found = Vec::new();
    let mut prose = Prose::default();
    // How many of each the parser is inside of.
    let (mut skipped, mut links) = (0_usize, 0_usize);
    for (event, place) in
        Parser::new_ext(source, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH).into_offset_iter()
    {
        match event {
            Event::Start(Tag::Emphasis | Tag::Strong | Tag::Strikethrough)
            | Event::End(TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough) => {}
            Event::Start(Tag::Link { .. }) => links += 1,
            Event::End(TagEnd::Link) => links = links.saturating_sub(1),
            Event::Start(Tag::Image { .. }) => skipped += 1,
            Event::End(TagEnd::Image) => skipped = skipped.saturating_sub(1),
            Event::Start(tag) => {
                prose.end(source, &mut found);
                skipped += usize::from(holds_no_sentence(tag.to_end()));
            }
            Event::End(tag) => {
                prose.end(source, &mut found);
                skipped = skipped.saturating_sub(usize::from(holds_no_sentence(tag)));
            }
            Event::Text(text) | Event::Code(text) if skipped == 0 => {
                if links > 0 {
                    prose.linked += text.len();
                }
                prose.push(source, &text, without_backticks(source, place, &text));
            }
            Event::SoftBreak | Event::HardBreak if skipped == 0 => prose.push(source, " ", place),
            _ => {}
        }
    }
    prose.end(source, &mut found);
    found
}

fn holds_no_sentence(tag: TagEnd) -> bool {
    matches!(tag, TagEnd::Heading(_) | TagEnd::CodeBlock | TagEnd::HtmlBlock | TagEnd::Table | TagEnd::MetadataBlock(_))
}

/// The place of code in a line without what marks it as code.
fn without_backticks(source: &str, place: Range<usize>, code: &str) -> Range<usize> {
    let Some(marked) = source.get(place.clone()).filter(|marked| marked.starts_with('`')) else { return place };
    let Some(at) = marked.find(code) else { return place };
    place.start + at..place.start + at + code.len()
}

fn of_plain_text(source: &str) -> Vec<Sentence> {
    let mut found = Vec::new();
    let mut prose = Prose::default();
    let mut start = 0;
    for line in source.split_inclusive('\n') {
        let place = start..start + line.len();
        start = place.end;
        if line.trim().is_empty() {
            prose.end(source, &mut found);
        } else {
            prose.push(source, line.trim_end(), place.start..place.start + line.trim_end().len());
            prose.push(source, " ", place.end..place.end);
        }
    }
    prose.end(source, &mut found);
    found
}

/// The readable text of a paragraph that is being put together.
#[derive(Default)]
struct Prose {
    text: String,
    pieces: Vec<Piece>,
    /// Bytes of `text` that are inside links.
    linked: usize,
}

/// A part of the readable text and where it comes from.
struct Piece {
    /// First byte in the readable text.
    start: usize,
    /// Bytes of the source.
    place: Range<usize>,
    /// Whether it stands in the source as it is, byte for byte. An entity such
    /// as `&amp;` does not.
    verbatim: bool,
}

impl Prose {
    fn push(&mut self, source: &str, text: &str, place: Range<usize>) {
        let verbatim = source.get(place.clone()) == Some(text);
        self.pieces.push(Piece { start: self.text.len(), place, verbatim });
        self.text.push_str(text);
    }

    /// Takes the paragraph as complete and begins another.
    fn end(&mut self, source: &str, found: &mut Vec<Sentence>) {
        let mut prose = std::mem::take(self);
        // More than half of it leads elsewhere: a menu, not a text.
        if prose.linked * 2 > prose.text.trim().len() {
            return;
        }
        let first = found.len();
        hide_marks(&mut prose.text);
        for part in split(&prose.text) {
            let place = prose.start_of(part.start)..prose.end_of(part.end);
            let text = one_line(&prose.text[part]);
            // Two sentences may end inside one piece that is no copy of its source.
            if let Some(last) = found[first..].last_mut().filter(|last| last.place.end > place.start) {
                last.place.end = last.place.end.max(place.end);
                last.text.push(' ');
                last.text.push_str(&text);
            } else if text.chars().any(char::is_alphanumeric) && source.get(place.clone()).is_some() {
                found.push(Sentence { place, text });
            }
        }
    }

    fn piece_at(&self, byte: usize) -> Option<&Piece> {
        let behind = self.pieces.partition_point(|piece| piece.start <= byte);
        self.pieces.get(behind.checked_sub(1)?)
    }

    /// Where in the source the byte of the readable text comes from.
    fn start_of(&self, byte: usize) -> usize {
        self.piece_at(byte)
            .map_or(0, |piece| if piece.verbatim { piece.place.start + byte - piece.start } else { piece.place.start })
    }

    /// Where in the source ends what ends before that byte of the readable text.
    fn end_of(&self, byte: usize) -> usize {
        self.piece_at(byte.saturating_sub(1))
            .map_or(0, |piece| if piece.verbatim { piece.place.start + byte - piece.start } else { piece.place.end })
    }
}

/// Stands for a byte that is not to be read. It is in no document: the parser
/// replaces it, and in plain text nothing is lost with it.
pub(super) const HIDDEN: char = '\0';

/// Hides marks such as `[3]`: they would look like citations of ours, and
/// behind a full stop they keep a sentence from ending.
fn hide_marks(text: &mut String) {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, behind)) = rest.split_once('[') {
        kept.push_str(before);
        let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 && behind[digits..].starts_with(']') {
            kept.extend(std::iter::repeat_n(HIDDEN, digits + 2));
            rest = &behind[digits + 1..];
        } else {
            kept.push('[');
            rest = behind;
        }
    }
    kept.push_str(rest);
    *text = kept;
}

/// Without line ends, control characters and what is hidden.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars().filter(|c| *c != HIDDEN) {
        if !c.is_whitespace() && !c.is_control() {
            line.push(c);
        } else if !line.is_empty() && !line.ends_with(' ') {
            line.push(' ');
        }
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        sentences(source).into_iter().map(|sentence| sentence.text).collect()
    }

    fn quotes(source: &str) -> Vec<&str> {
        sentences(source).into_iter().map(|sentence| &source[sentence.place]).collect()
    }

    #[test]
    fn paragraphs_are_split_across_line_ends() {
        let source = "The first one\ngoes on. The second\r\none ends here!\n\nA third";
        assert_eq!(texts(source), ["The first one goes on.", "The second one ends here!", "A third"]);
        assert_eq!(quotes(source), ["The first one\ngoes on.", "The second\r\none ends here!", "A third"]);
    }

    #[test]
    fn abbreviations_and_initials_end_nothing() {
        let source = "Dr. J. Smith came at 3.15 p.m. to St. Olav. See e.g. Fig. 3 for more. Done.";
        assert_eq!(
            texts(source),
            ["Dr. J. Smith came at 3.15 p.m. to St. Olav.", "See e.g. Fig. 3 for more.", "Done."]
        );
    }

    #[test]
    fn markup_is_not_read_and_stays_in_the_quote() {
        let source = "Read **all** of [the book](http://x.test/a_b) &amp; `code` too. ![a picture](p.png) End.";
        assert_eq!(texts(source), ["Read all of the book & code too.", "End."]);
        assert_eq!(quotes(source)[0], "Read **all** of [the book](http://x.test/a_b) &amp; `code` too.");
    }

    #[test]
    fn headings_code_tables_and_menus_hold_no_sentences() {
        let source = "# A heading that says much.\n\n- [Home page](/)\n- [About us](/about)\n\n\
                      ```\nlet x = 1. And two.\n```\n\n| a | b |\n|---|---|\n| A cell. | B cell. |\n\n\
                      <div>Raw text. More.</div>\n\n- An item is read.\n  > So is a quotation.\n\nThis is the text.";
        assert_eq!(texts(source), ["An item is read.", "So is a quotation.", "This is the text."]);
    }

    #[test]
    fn a_document_of_nothing_else_is_plain_text() {
        assert_eq!(texts("# Only a heading"), ["# Only a heading"]);
        assert_eq!(texts("    four spaces before it.\n    And more."), ["four spaces before it.", "And more."]);
        assert_eq!(texts(" \n\t\n"), Vec::<String>::new());
    }

    #[test]
    fn marks_that_look_like_citations_are_left_out() {
        assert_eq!(
            texts("It is known.[12] A list[] and a [1a] stay, [] too."),
            ["It is known.", "A list[] and a [1a] stay, [] too."]
        );
    }

    #[test]
    fn places_do_not_overlap() {
        assert_eq!(quotes("`One. Two.` Three."), ["One.", "Two.", "Three."]);
        assert_eq!(quotes("`One.\nTwo.` Three."), ["`One.\nTwo.`", "Three."]);
        assert_eq!(quotes("One &amp; &lt;"), ["One &amp; &lt;"]);
    }

    #[test]
    fn languages_without_spaces_are_split() {
        assert_eq!(texts("今日は天気がいい。散歩に行きます。"), ["今日は天気がいい。", "散歩に行きます。"]);
        let endless = "ก".repeat(1_200);
        assert_eq!(quotes(&endless).iter().map(|quote| quote.chars().count()).collect::<Vec<_>>(), [500, 500, 200]);
    }
}
