//! What elements mean to a reader.

use crate::tools::web::html::{Dom, Element, Id, Space};

/// What is done with an element of HTML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing of it is shown.
    Hidden,
    /// A block of its own.
    Block,
    /// Part of the line.
    Inline,
    Heading(usize),
    List,
    Item,
    Term,
    Definition,
    Quote,
    Table,
    Row,
    Cell,
    Caption,
    Preformatted,
    Code,
    Emphasis,
    Strong,
    Struck,
    Raised,
    Lowered,
    Quoted,
    Link,
    Picture,
    Frame,
    Break,
    Rule,
    Reading,
    Math,
    Svg,
}

/// What an element is to a reader. With `navigation`, menus are read as well.
pub(super) fn role(element: &Element, navigation: bool) -> Role {
    match element.space() {
        Space::Html => {}
        Space::MathMl => return if element.name() == "math" { Role::Math } else { Role::Inline },
        Space::Svg => return svg(element.name()),
        Space::Other => return Role::Inline,
    }
    if is_hidden(element) || (!navigation && is_navigation(element)) {
        return Role::Hidden;
    }
    match element.name() {
        "audio" | "button" | "canvas" | "datalist" | "head" | "iframe" | "input" | "meter" | "noembed" | "noframes"
        | "noscript" | "optgroup" | "option" | "progress" | "script" | "select" | "style" | "textarea" | "title"
        | "video" => Role::Hidden,
        "template" if element.attribute("shadowrootmode").is_none() => Role::Hidden,
        "dialog" if element.attribute("open").is_none() => Role::Hidden,
        "h1" => Role::Heading(1),
        "h2" => Role::Heading(2),
        "h3" => Role::Heading(3),
        "h4" => Role::Heading(4),
        "h5" => Role::Heading(5),
        "h6" => Role::Heading(6),
        "ul" | "ol" | "menu" | "dir" => Role::List,
        "li" => Role::Item,
        "dt" => Role::Term,
        "dd" => Role::Definition,
        "blockquote" => Role::Quote,
        "table" => Role::Table,
        "tr" => Role::Row,
        "td" | "th" => Role::Cell,
        "caption" => Role::Caption,
        "pre" | "listing" | "plaintext" | "xmp" => Role::Preformatted,
        "code" | "kbd" | "samp" | "tt" => Role::Code,
        "em" | "i" | "cite" | "dfn" | "var" => Role::Emphasis,
        "strong" | "b" => Role::Strong,
        "del" | "s" | "strike" => Role::Struck,
        "sup" => Role::Raised,
        "sub" => Role::Lowered,
        "q" => Role::Quoted,
        "a" => Role::Link,
        "img" | "image" => Role::Picture,
        "frame" => Role::Frame,
        "br" => Role::Break,
        "hr" => Role::Rule,
        "rt" => Role::Reading,
        "address" | "article" | "aside" | "body" | "center" | "details" | "dialog" | "div" | "dl" | "fieldset"
        | "figcaption" | "figure" | "footer" | "form" | "frameset" | "header" | "hgroup" | "html" | "legend"
        | "main" | "nav" | "p" | "search" | "section" | "summary" | "tbody" | "template" | "tfoot" | "thead" => {
            Role::Block
        }
        _ => Role::Inline,
    }
}

fn svg(name: &str) -> Role {
    match name {
        "svg" | "g" | "a" | "switch" | "tspan" | "textPath" => Role::Inline,
        "text" | "foreignObject" => Role::Svg,
        _ => Role::Hidden,
    }
}

/// Whether the page says that a reader does not see an element.
fn is_hidden(element: &Element) -> bool {
    // What a search in the page unfolds can be read.
    if element.attribute("hidden").is_some_and(|value| !value.eq_ignore_ascii_case("until-found")) {
        return true;
    }
    // The same formula once more, for the eye: it is read from its MathML.
    if has_class(element, "katex-html") {
        return true;
    }
    element.attribute("style").is_some_and(|style| {
        style.split(';').filter_map(|declaration| declaration.split_once(':')).any(|(name, value)| {
            let value = value.split('!').next().unwrap_or_default().trim().to_ascii_lowercase();
            match name.trim().to_ascii_lowercase().as_str() {
                "display" => value == "none",
                "visibility" => value == "hidden" || value == "collapse",
                _ => false,
            }
        })
    })
}

fn is_navigation(element: &Element) -> bool {
    let roles = ["navigation", "menu", "menubar", "tablist", "toolbar"];
    element.name() == "nav" || element.attribute("role").is_some_and(|role| roles.contains(&role))
}

pub(super) fn has_class(element: &Element, class: &str) -> bool {
    element.attribute("class").is_some_and(|classes| classes.split_ascii_whitespace().any(|name| name == class))
}

/// The language of a block of code, as pages write it for those who colour it.
pub(super) fn language(dom: &Dom, code: Id) -> Option<String> {
    let around = dom.parent(code).filter(|id| dom.element(*id).is_some_and(|element| element.name() == "div"));
    let inside = dom.children(code).find(|id| dom.element(*id).is_some_and(|element| element.is_html("code")));
    let outer = around.and_then(|id| dom.parent(id)).filter(|_| around.is_some());
    [inside, Some(code), around, outer].into_iter().flatten().filter_map(|id| dom.element(id)).find_map(named_language)
}

fn named_language(element: &Element) -> Option<String> {
    let classes = element.attribute("class").unwrap_or_default();
    let marked = classes.split_ascii_whitespace().find_map(|class| {
        let prefixes = ["language-", "lang-", "highlight-source-", "highlight-", "sourceCode-"];
        prefixes.iter().find_map(|prefix| class.strip_prefix(prefix))
    });
    let brush =
        || classes.split_once("brush:").and_then(|(_, rest)| rest.split([';', ' ']).find(|name| !name.is_empty()));
    let named = || element.attribute("data-lang").or_else(|| element.attribute("data-language"));
    let name = marked.or_else(brush).or_else(named)?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "+#._-".contains(c);
    let told = !matches!(name, "none" | "default" | "plaintext" | "text" | "wrapper");
    (told && name.len() <= 32 && !name.is_empty() && name.chars().all(is_name)).then(|| name.to_owned())
}

/// A whole number as HTML reads it: what follows the digits does not count.
pub(super) fn integer(text: &str) -> Option<i64> {
    let text = text.trim_ascii_start();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let value: i64 = digits[..end].parse().ok()?;
    (value <= i64::from(i32::MAX)).then_some(sign * value)
}

/// The number of columns or rows that a cell spans.
pub(super) fn span(element: &Element, name: &str) -> Option<usize> {
    element.attribute(name).and_then(integer).and_then(|number| usize::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_html_reads_them() {
        for (text, number) in
            [(" 3", Some(3)), ("-2", Some(-2)), ("+4px", Some(4)), ("x", None), ("", None), ("99999999999", None)]
        {
            assert_eq!(integer(text), number, "{text:?}");
        }
    }
}
