//! What stands between the tokenizers and the builders of the tree. It bounds
//! what they would otherwise search in time that grows with the square: elements
//! inside one another and formatting that is opened again in every paragraph.
//! Text is never left out: what is nested too deeply loses its tags only.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use html5ever::interface::{ElemName as _, Tracer, TreeSink as _};
use html5ever::tokenizer::{Tag, TagKind, Token, TokenSink, TokenSinkResult};
use html5ever::tree_builder::TreeBuilder;
use html5ever::{Attribute, LocalName, local_name, ns};
use xml5ever::tokenizer::{
    ProcessResult, Tag as XmlTag, TagKind as XmlTagKind, Token as XmlToken, TokenSink as XmlSink,
};
use xml5ever::tree_builder::XmlTreeBuilder;

use super::dom::{Id, Sink};
use crate::tools::web::budget::Budget;

/// Elements inside one another. Browsers stop at 512 as well.
pub(super) const MAX_DEPTH: usize = 512;
/// Formatting elements that are open or to be opened again.
const MAX_FORMATTING: usize = 128;
/// Tags that are passed on between two counts of what is open.
const COUNT_EVERY: u32 = 16;
/// Bytes of an attribute's value. No address is longer, and pictures that are
/// written into one are not read.
const MAX_VALUE: usize = 8192;

/// Attributes that the converter or the builder of the tree looks at.
fn is_used(name: &str) -> bool {
    const USED: &[&str] = &[
        "align",
        "alt",
        "alttext",
        "aria-hidden",
        "charset",
        "class",
        "close",
        "colspan",
        "content",
        "data-lang",
        "data-language",
        "display",
        "encoding",
        "hidden",
        "href",
        "http-equiv",
        "id",
        "lang",
        "name",
        "notation",
        "open",
        "reversed",
        "role",
        "rowspan",
        "separators",
        "shadowrootmode",
        "src",
        "start",
        "style",
        "title",
        "type",
        "value",
    ];
    USED.binary_search(&name).is_ok()
}

fn keep(attributes: &mut Vec<Attribute>, also: impl Fn(&Attribute) -> bool) {
    attributes
        .retain(|attribute| attribute.value.len() <= MAX_VALUE && (is_used(&attribute.name.local) || also(attribute)));
}

/// Names of more than seven bytes are entered into a table that all threads
/// share, so those that nobody knows are not held on to.
fn known(name: LocalName) -> LocalName {
    const LONG: &[&str] = &[
        "annotation",
        "annotation-xml",
        "basefont",
        "blockquote",
        "colgroup",
        "datalist",
        "fieldset",
        "figcaption",
        "foreignObject",
        "foreignobject",
        "frameset",
        "menclose",
        "mfenced",
        "mlabeledtr",
        "mmultiscripts",
        "mphantom",
        "mprescripts",
        "munderover",
        "noframes",
        "noscript",
        "optgroup",
        "plaintext",
        "progress",
        "semantics",
        "template",
        "textarea",
    ];
    if name.len() <= 7 || LONG.binary_search(&&*name).is_ok() { name } else { LocalName::from("x-other") }
}

/// Elements without content.
fn is_void(name: &str) -> bool {
    const VOID: &[&str] = &[
        "area", "base", "basefont", "bgsound", "br", "col", "embed", "frame", "hr", "image", "img", "input", "keygen",
        "link", "meta", "param", "source", "track", "wbr",
    ];
    VOID.binary_search(&name).is_ok()
}

/// Elements whose content is no markup; without their tags it would become some.
fn is_raw(name: &str) -> bool {
    const RAW: &[&str] =
        &["iframe", "noembed", "noframes", "noscript", "plaintext", "script", "style", "textarea", "title", "xmp"];
    RAW.binary_search(&name).is_ok()
}

/// Elements that are opened again where they were not closed.
fn is_formatting(name: &str) -> bool {
    const FORMATTING: &[&str] =
        &["a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"];
    FORMATTING.binary_search(&name).is_ok()
}

/// Elements that are usually closed without an end tag.
fn closes_itself(name: &str) -> bool {
    const IMPLIED: &[&str] = &[
        "body", "colgroup", "dd", "dt", "head", "html", "li", "optgroup", "option", "p", "rb", "rp", "rt", "rtc",
        "tbody", "td", "tfoot", "th", "thead", "tr",
    ];
    IMPLIED.binary_search(&name).is_ok()
}

/// Start tags that were left out, so that their end tags are left out too.
#[derive(Default)]
struct Dropped(RefCell<HashMap<LocalName, usize>>);

impl Dropped {
    fn start(&self, name: LocalName) {
        *self.0.borrow_mut().entry(name).or_default() += 1;
    }

    /// Whether an end tag belongs to one of them.
    fn end(&self, name: &LocalName) -> bool {
        let mut dropped = self.0.borrow_mut();
        let Some(count) = dropped.get_mut(name) else { return false };
        *count -= 1;
        if *count == 0 {
            dropped.remove(name);
        }
        true
    }
}

/// Passes the tokens of HTML on.
pub(super) struct HtmlFilter<'a> {
    builder: TreeBuilder<Id, Sink>,
    budget: &'a Budget,
    dropped: Dropped,
    tags: Cell<u32>,
    open: Cell<usize>,
    formatting: Cell<usize>,
}

/// Counts what is open.
struct Count<'a> {
    sink: &'a Sink,
    all: Cell<usize>,
    formatting: Cell<usize>,
}

impl<'a> Count<'a> {
    fn new(sink: &'a Sink) -> Self {
        Self { sink, all: Cell::new(0), formatting: Cell::new(0) }
    }
}

impl Tracer for Count<'_> {
    type Handle = Id;

    fn trace_handle(&self, id: &Id) {
        self.all.set(self.all.get() + 1);
        let name = self.sink.elem_name(id);
        if *name.ns() == ns!(html) && is_formatting(name.local_name()) {
            self.formatting.set(self.formatting.get() + 1);
        }
    }
}

impl<'a> HtmlFilter<'a> {
    pub(super) fn new(builder: TreeBuilder<Id, Sink>, budget: &'a Budget) -> Self {
        Self {
            builder,
            budget,
            dropped: Dropped::default(),
            tags: Cell::new(0),
            open: Cell::new(0),
            formatting: Cell::new(0),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.builder.sink.is_full()
    }

    pub(super) fn into_sink(self) -> Sink {
        self.builder.sink
    }

    fn count(&self) {
        if self.tags.get() >= COUNT_EVERY {
            self.tags.set(0);
            let count = Count::new(&self.builder.sink);
            self.builder.trace_handles(&count);
            self.open.set(count.all.get());
            self.formatting.set(count.formatting.get());
        }
    }

    /// Whether a tag is passed on.
    fn passes(&self, tag: &mut Tag) -> bool {
        tag.name = known(std::mem::replace(&mut tag.name, local_name!("")));
        if tag.kind == TagKind::EndTag {
            tag.attrs.clear();
            let passes = !self.dropped.end(&tag.name);
            self.tags.set(self.tags.get() + u32::from(passes));
            return passes;
        }
        self.count();
        keep(&mut tag.attrs, |_| false);
        let too_deep = self.open.get() >= MAX_DEPTH && !is_void(&tag.name) && !is_raw(&tag.name);
        let too_many = self.formatting.get() >= MAX_FORMATTING && is_formatting(&tag.name);
        if too_deep || too_many {
            if !closes_itself(&tag.name) {
                self.dropped.start(tag.name.clone());
            }
            return false;
        }
        self.tags.set(self.tags.get() + 1);
        true
    }
}

impl TokenSink for HtmlFilter<'_> {
    type Handle = Id;

    fn process_token(&self, mut token: Token, line: u64) -> TokenSinkResult<Id> {
        if self.budget.spent() || self.is_full() {
            return TokenSinkResult::Continue;
        }
        let passes = match &mut token {
            Token::TagToken(tag) => self.passes(tag),
            Token::CommentToken(_) | Token::ParseError(_) => false,
            _ => true,
        };
        if !passes {
            return TokenSinkResult::Continue;
        }
        match self.builder.process_token(token, line) {
            // There are no scripts, and the encoding is known.
            TokenSinkResult::Script(_) | TokenSinkResult::EncodingIndicator(_) => TokenSinkResult::Continue,
            result => result,
        }
    }

    fn end(&self) {
        self.builder.end();
    }

    fn adjusted_current_node_present_but_not_in_html_namespace(&self) -> bool {
        self.builder.adjusted_current_node_present_but_not_in_html_namespace()
    }
}

/// Passes the tokens of XML on.
pub(super) struct XmlFilter<'a> {
    builder: XmlTreeBuilder<Id, Sink>,
    budget: &'a Budget,
    dropped: Dropped,
    tags: Cell<u32>,
    open: Cell<usize>,
}

impl<'a> XmlFilter<'a> {
    pub(super) fn new(builder: XmlTreeBuilder<Id, Sink>, budget: &'a Budget) -> Self {
        Self { builder, budget, dropped: Dropped::default(), tags: Cell::new(0), open: Cell::new(0) }
    }

    pub(super) fn is_full(&self) -> bool {
        self.builder.sink.is_full()
    }

    pub(super) fn into_sink(self) -> Sink {
        self.builder.sink
    }

    fn count(&self) {
        if self.tags.get() >= COUNT_EVERY {
            self.tags.set(0);
            let count = Count::new(&self.builder.sink);
            self.builder.trace_handles(&count);
            self.open.set(count.all.get());
        }
    }

    fn passes(&self, tag: &mut XmlTag) -> bool {
        self.count();
        tag.name.local = known(std::mem::replace(&mut tag.name.local, local_name!("")));
        keep(&mut tag.attrs, |attribute| {
            let prefix = attribute.name.prefix.as_ref().is_some_and(|prefix| &**prefix == "xmlns");
            prefix || attribute.name.local == local_name!("xmlns")
        });
        let empty = is_void(&tag.name.local) && tag.name.prefix.is_none();
        match tag.kind {
            // `<br></br>` is one line break, and `<br>` is written by people who
            // do not know that this is XML.
            XmlTagKind::StartTag if empty => tag.kind = XmlTagKind::EmptyTag,
            XmlTagKind::EndTag if empty => return false,
            XmlTagKind::StartTag if self.open.get() >= MAX_DEPTH => {
                self.dropped.start(tag.name.local.clone());
                return false;
            }
            XmlTagKind::EndTag if self.dropped.end(&tag.name.local) => return false,
            // `</>` is no tag of XML.
            XmlTagKind::ShortTag => return false,
            _ => {}
        }
        self.tags.set(self.tags.get() + 1);
        true
    }
}

impl XmlSink for XmlFilter<'_> {
    type Handle = Id;

    fn process_token(&self, mut token: XmlToken) -> ProcessResult<Id> {
        if self.budget.spent() || self.is_full() {
            return ProcessResult::Continue;
        }
        let passes = match &mut token {
            XmlToken::Tag(tag) => self.passes(tag),
            XmlToken::Comment(_) | XmlToken::ProcessingInstruction(_) | XmlToken::ParseError(_) => false,
            _ => true,
        };
        if !passes {
            return ProcessResult::Continue;
        }
        match self.builder.process_token(token) {
            ProcessResult::Script(_) => ProcessResult::Continue,
            result => result,
        }
    }

    fn end(&self) {
        self.builder.end();
    }
}
