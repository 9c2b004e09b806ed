//! The tree of a document. Nodes lie in one list and name each other by number,
//! so that nothing works recursively, not even giving them back.

use std::borrow::Cow;
use std::cell::{Cell, Ref, RefCell};

use html5ever::interface::{ElementFlags, NodeOrText, QuirksMode, TreeSink};
use html5ever::tendril::StrTendril;
use html5ever::{Attribute, LocalName, QualName, local_name, ns};

/// Elements of a page at most: memory goes with them, and the largest pages that
/// people write have some tens of thousands.
pub(super) const MAX_ELEMENTS: usize = 150_000;

/// A node's place in the list.
pub(in crate::tools::web) type Id = u32;

/// The node that all others are below of.
pub(in crate::tools::web) const DOCUMENT: Id = 0;
/// Stands for a comment and the like, which is not kept.
const NOTHING: Id = Id::MAX;

/// What a node is.
pub(in crate::tools::web) enum Data {
    /// The document, or the content of a template.
    Root,
    Text(String),
    Element(Box<Element>),
}

/// An element.
pub(in crate::tools::web) struct Element {
    name: QualName,
    attributes: Vec<(LocalName, String)>,
    /// Where its content is, if it is a template.
    content: Option<Id>,
}

/// The vocabularies that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tools::web) enum Space {
    Html,
    MathMl,
    Svg,
    Other,
}

impl Element {
    pub(in crate::tools::web) fn name(&self) -> &str {
        &self.name.local
    }

    pub(in crate::tools::web) fn space(&self) -> Space {
        match self.name.ns {
            // XHTML without the declaration of its namespace means it all the same.
            ns!(html) | ns!() => Space::Html,
            ns!(mathml) => Space::MathMl,
            ns!(svg) => Space::Svg,
            _ => Space::Other,
        }
    }

    pub(in crate::tools::web) fn is_html(&self, name: &str) -> bool {
        self.space() == Space::Html && self.name() == name
    }

    /// An attribute's value; empty when it has none.
    pub(in crate::tools::web) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| &**known == name).map(|(_, value)| value.as_str())
    }
}

struct Node {
    data: Data,
    parent: Id,
    previous: Id,
    next: Id,
    first: Id,
    last: Id,
}

/// A document.
pub(in crate::tools::web) struct Dom {
    nodes: Vec<Node>,
    elements: usize,
}

fn some(id: Id) -> Option<Id> {
    (id != NOTHING).then_some(id)
}

impl Dom {
    fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    pub(in crate::tools::web) fn data(&self, id: Id) -> &Data {
        &self.node(id).data
    }

    pub(in crate::tools::web) fn element(&self, id: Id) -> Option<&Element> {
        match self.data(id) {
            Data::Element(element) => Some(element),
            _ => None,
        }
    }

    pub(in crate::tools::web) fn text(&self, id: Id) -> Option<&str> {
        match self.data(id) {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(in crate::tools::web) fn parent(&self, id: Id) -> Option<Id> {
        some(self.node(id).parent)
    }

    pub(in crate::tools::web) fn next(&self, id: Id) -> Option<Id> {
        some(self.node(id).next)
    }

    pub(in crate::tools::web) fn previous(&self, id: Id) -> Option<Id> {
        some(self.node(id).previous)
    }

    pub(in crate::tools::web) fn first(&self, id: Id) -> Option<Id> {
        some(self.node(id).first)
    }

    pub(in crate::tools::web) fn children(&self, id: Id) -> impl Iterator<Item = Id> + '_ {
        std::iter::successors(self.first(id), |child| self.next(*child))
    }

    /// The nodes below one, in the order of the text.
    pub(in crate::tools::web) fn below(&self, root: Id) -> impl Iterator<Item = Id> + '_ {
        std::iter::successors(self.first(root), move |id| {
            self.first(*id).or_else(|| {
                let mut id = *id;
                while id != root {
                    if let Some(next) = self.next(id) {
                        return Some(next);
                    }
                    id = self.parent(id)?;
                }
                None
            })
        })
    }

    pub(super) fn has_elements(&self) -> bool {
        self.elements > 0
    }

    fn add(&mut self, data: Data) -> Id {
        let node = Node { data, parent: NOTHING, previous: NOTHING, next: NOTHING, first: NOTHING, last: NOTHING };
        self.nodes.push(node);
        // There are far fewer: elements are bounded, and texts lie between them.
        Id::try_from(self.nodes.len() - 1).unwrap_or(NOTHING)
    }

    fn detach(&mut self, id: Id) {
        let node = self.node_mut(id);
        let (parent, previous, next) = (node.parent, node.previous, node.next);
        (node.parent, node.previous, node.next) = (NOTHING, NOTHING, NOTHING);
        match some(previous) {
            Some(previous) => self.node_mut(previous).next = next,
            None if parent != NOTHING => self.node_mut(parent).first = next,
            None => {}
        }
        match some(next) {
            Some(next) => self.node_mut(next).previous = previous,
            None if parent != NOTHING => self.node_mut(parent).last = previous,
            None => {}
        }
    }

    /// Puts a node before a sibling, or at the end.
    fn attach(&mut self, id: Id, parent: Id, before: Option<Id>) {
        self.detach(id);
        let previous = before.map_or(self.node(parent).last, |before| self.node(before).previous);
        let node = self.node_mut(id);
        (node.parent, node.previous, node.next) = (parent, previous, before.unwrap_or(NOTHING));
        match some(previous) {
            Some(previous) => self.node_mut(previous).next = id,
            None => self.node_mut(parent).first = id,
        }
        match before {
            Some(before) => self.node_mut(before).previous = id,
            None => self.node_mut(parent).last = id,
        }
    }

    fn insert(&mut self, child: NodeOrText<Id>, parent: Id, before: Option<Id>) {
        let id = match child {
            NodeOrText::AppendNode(NOTHING) => return,
            NodeOrText::AppendNode(id) => id,
            NodeOrText::AppendText(text) => {
                let previous = before.map_or(self.node(parent).last, |before| self.node(before).previous);
                if let Some(previous) = some(previous)
                    && let Data::Text(known) = &mut self.node_mut(previous).data
                {
                    known.push_str(&text);
                    return;
                }
                self.add(Data::Text(text.into()))
            }
        };
        self.attach(id, parent, before);
    }
}

/// What the parsers build the tree with.
pub(super) struct Sink {
    dom: RefCell<Dom>,
    full: Cell<bool>,
}

impl Default for Sink {
    fn default() -> Self {
        let mut dom = Dom { nodes: Vec::new(), elements: 0 };
        dom.add(Data::Root);
        Self { dom: RefCell::new(dom), full: Cell::new(false) }
    }
}

impl Sink {
    /// Whether there are more elements than are taken.
    pub(super) fn is_full(&self) -> bool {
        self.full.get()
    }

    /// The tree; none when the document is too large.
    pub(super) fn into_dom(self) -> Option<Dom> {
        (!self.full.get()).then(|| self.dom.into_inner())
    }
}

impl TreeSink for Sink {
    type Handle = Id;
    type Output = Self;
    type ElemName<'a> = Ref<'a, QualName>;

    fn finish(self) -> Self {
        self
    }

    fn parse_error(&self, _: Cow<'static, str>) {}

    fn get_document(&self) -> Id {
        DOCUMENT
    }

    fn elem_name<'a>(&'a self, target: &'a Id) -> Ref<'a, QualName> {
        const NONE: &QualName = &QualName { prefix: None, ns: ns!(), local: local_name!("") };
        Ref::map(self.dom.borrow(), |dom| dom.element(*target).map_or(NONE, |element| &element.name))
    }

    fn create_element(&self, name: QualName, attributes: Vec<Attribute>, flags: ElementFlags) -> Id {
        let mut dom = self.dom.borrow_mut();
        dom.elements += 1;
        if dom.elements > MAX_ELEMENTS {
            self.full.set(true);
        }
        let attributes: Vec<_> =
            attributes.into_iter().map(|Attribute { name, value }| (name.local, value.into())).collect();
        // A declarative shadow root is shown in its place.
        let shown = attributes.iter().any(|(name, _): &(LocalName, String)| *name == local_name!("shadowrootmode"));
        let content = (flags.template && !shown).then(|| dom.add(Data::Root));
        dom.add(Data::Element(Box::new(Element { name, attributes, content })))
    }

    fn create_comment(&self, _: StrTendril) -> Id {
        NOTHING
    }

    fn create_pi(&self, _: StrTendril, _: StrTendril) -> Id {
        NOTHING
    }

    fn append(&self, parent: &Id, child: NodeOrText<Id>) {
        self.dom.borrow_mut().insert(child, *parent, None);
    }

    fn append_based_on_parent_node(&self, element: &Id, previous: &Id, child: NodeOrText<Id>) {
        let has_parent = self.dom.borrow().parent(*element).is_some();
        if has_parent {
            self.append_before_sibling(element, child);
        } else {
            self.append(previous, child);
        }
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&self, target: &Id) -> Id {
        let dom = self.dom.borrow();
        dom.element(*target).and_then(|element| element.content).unwrap_or(*target)
    }

    fn same_node(&self, x: &Id, y: &Id) -> bool {
        x == y
    }

    fn set_quirks_mode(&self, _: QuirksMode) {}

    fn append_before_sibling(&self, sibling: &Id, child: NodeOrText<Id>) {
        let mut dom = self.dom.borrow_mut();
        if let Some(parent) = dom.parent(*sibling) {
            dom.insert(child, parent, Some(*sibling));
        }
    }

    fn add_attrs_if_missing(&self, target: &Id, attributes: Vec<Attribute>) {
        let mut dom = self.dom.borrow_mut();
        if let Data::Element(element) = &mut dom.node_mut(*target).data {
            for Attribute { name, value } in attributes {
                if element.attributes.iter().all(|(known, _)| *known != name.local) {
                    element.attributes.push((name.local, value.into()));
                }
            }
        }
    }

    fn remove_from_parent(&self, target: &Id) {
        self.dom.borrow_mut().detach(*target);
    }

    fn reparent_children(&self, node: &Id, new_parent: &Id) {
        let mut dom = self.dom.borrow_mut();
        while let Some(child) = dom.first(*node) {
            dom.attach(child, *new_parent, None);
        }
    }
}
