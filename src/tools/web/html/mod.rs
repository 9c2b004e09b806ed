//! From markup to a tree: HTML by the algorithm of browsers, XHTML by the rules
//! of XML. Time and memory are linear in the text, whatever it is.

mod attributes;
mod dom;
mod filter;

use html5ever::buffer_queue::BufferQueue;
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::{Tokenizer, TokenizerOpts};
use html5ever::tree_builder::TreeBuilder;
use html5ever::{TokenizerResult, tree_builder};
use xml5ever::tokenizer::{XmlTokenizer, XmlTokenizerOpts};
use xml5ever::tree_builder::{XmlTreeBuilder, XmlTreeBuilderOpts};

use super::budget::Budget;
use dom::Sink;
pub(super) use dom::{DOCUMENT, Data, Dom, Element, Id, Space};
use filter::{HtmlFilter, XmlFilter};

/// Bytes that the tokenizer gets at a time.
const CHUNK: usize = 16 << 10;

/// How a text is marked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Html,
    Xml,
}

/// Why there is no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unparsed {
    /// The time was up.
    Stopped,
    /// It has more elements than are taken.
    TooLarge,
}

/// Reads a document.
pub(super) fn parse(text: &str, syntax: Syntax, budget: &Budget) -> Result<Dom, Unparsed> {
    if budget.check() {
        return Err(Unparsed::Stopped);
    }
    let sink = match syntax {
        Syntax::Html => html(text, budget),
        Syntax::Xml => xml(text, budget),
    };
    if budget.check() {
        return Err(Unparsed::Stopped);
    }
    let dom = sink.into_dom().ok_or(Unparsed::TooLarge)?;
    // What has no element is no XML, whatever it is called.
    if syntax == Syntax::Xml && !dom.has_elements() {
        return parse(text, Syntax::Html, budget);
    }
    Ok(dom)
}

fn html(text: &str, budget: &Budget) -> Sink {
    let options = tree_builder::TreeBuilderOpts::default();
    let filter = HtmlFilter::new(TreeBuilder::new(Sink::default(), options), budget);
    let tokenizer = Tokenizer::new(filter, TokenizerOpts::default());
    let input = BufferQueue::default();
    for piece in chunks(text, Syntax::Html) {
        if budget.check() || tokenizer.sink.is_full() {
            break;
        }
        input.push_back(StrTendril::from_slice(piece));
        while !matches!(tokenizer.feed(&input), TokenizerResult::Done) {}
    }
    tokenizer.end();
    tokenizer.sink.into_sink()
}

fn xml(text: &str, budget: &Budget) -> Sink {
    let filter = XmlFilter::new(XmlTreeBuilder::new(Sink::default(), XmlTreeBuilderOpts::default()), budget);
    let tokenizer = XmlTokenizer::new(filter, XmlTokenizerOpts::default());
    let input = BufferQueue::default();
    for piece in chunks(text, Syntax::Xml) {
        if budget.check() || tokenizer.sink.is_full() {
            break;
        }
        input.push_back(StrTendril::from_slice(piece));
        while !matches!(tokenizer.feed(&input), TokenizerResult::Done) {}
    }
    tokenizer.end();
    tokenizer.sink.into_sink()
}

/// The text in pieces, without the attributes that are too many.
fn chunks(text: &str, syntax: Syntax) -> impl Iterator<Item = &str> {
    attributes::bounded(text, syntax).into_iter().flat_map(|range| {
        let mut rest = &text[range];
        std::iter::from_fn(move || {
            let end = rest.floor_char_boundary(CHUNK);
            let (piece, behind) = rest.split_at(end);
            rest = behind;
            (!piece.is_empty()).then_some(piece)
        })
    })
}

#[cfg(test)]
mod tests;
