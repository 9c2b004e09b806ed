//! Formulas in `MathML`: the TeX that they were made from where it is there, or
//! else written in a line.

use crate::tools::web::html::{Data, Dom, Element, Id};

/// A formula.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Formula {
    Tex(String),
    Line(String),
}

/// Reads the formula of a `math` element.
pub(super) fn formula(dom: &Dom, math: Id) -> Formula {
    let alternative = dom.element(math).and_then(|math| math.attribute("alttext"));
    let tex = annotation(dom, math).or_else(|| alternative.map(str::to_owned));
    match tex.map(|tex| clean(&tex)).filter(|tex| !tex.is_empty()) {
        Some(tex) => Formula::Tex(tex),
        None => Formula::Line(line(dom, math)),
    }
}

/// The TeX that the page gives beside the formula.
fn annotation(dom: &Dom, math: Id) -> Option<String> {
    let is_tex = |element: &Element| {
        let encoding = element.attribute("encoding").unwrap_or_default().to_ascii_lowercase();
        element.name() == "annotation" && (encoding.contains("tex"))
    };
    let id = dom.below(math).find(|id| dom.element(*id).is_some_and(is_tex))?;
    Some(dom.below(id).filter_map(|id| dom.text(id)).collect())
}

/// On one line and without what only says how large it is shown.
pub(super) fn clean(tex: &str) -> String {
    let line = tex.split_whitespace().collect::<Vec<_>>().join(" ");
    let inner = line.strip_prefix("{\\displaystyle").and_then(|rest| rest.strip_suffix('}'));
    inner.map_or(line.as_str(), str::trim).to_owned()
}

/// What is written before a child of an element, by its number, and behind the
/// last one.
fn signs(name: &str, child: usize, last: bool) -> (&'static str, &'static str) {
    match (name, child) {
        ("msqrt", 0) => ("√(", if last { ")" } else { "" }),
        ("msqrt", _) if last => ("", ")"),
        ("mfrac", 1) => ("/", ""),
        ("msup" | "mover", 1) | ("msubsup" | "munderover", 2) => ("^", ""),
        ("msub" | "munder" | "msubsup" | "munderover", 1) => ("_", ""),
        ("mfenced", 0) => ("(", if last { ")" } else { "" }),
        ("mfenced", _) => (", ", if last { ")" } else { "" }),
        ("mtable", 0) => ("[", if last { "]" } else { "" }),
        ("mtable", _) => ("; ", if last { "]" } else { "" }),
        ("mtr" | "mlabeledtr", 1..) => (", ", ""),
        _ => ("", ""),
    }
}

/// Whether what stands there has to be held together by brackets.
fn needs_brackets(dom: &Dom, id: Id, parent: &str, child: usize) -> bool {
    let holds = matches!(parent, "mfrac" | "mroot")
        || (matches!(parent, "msup" | "msub" | "munder" | "mover") && child > 0)
        || (matches!(parent, "msubsup" | "munderover") && child > 0)
        || (matches!(parent, "msup" | "msub" | "msubsup") && is_compound(dom, id) && child == 0);
    holds && is_compound(dom, id)
}

/// Whether an element is more than one number, name or sign.
fn is_compound(dom: &Dom, mut id: Id) -> bool {
    loop {
        let Some(element) = dom.element(id) else { return false };
        match element.name() {
            "mi" | "mn" | "mo" | "mtext" | "ms" | "mfenced" | "msqrt" | "mtable" => return false,
            "mrow" | "mstyle" | "mpadded" | "semantics" => {}
            _ => return true,
        }
        let mut children = dom.children(id).filter(|child| dom.element(*child).is_some());
        match (children.next(), children.next()) {
            (Some(only), None) => id = only,
            (None, _) => return false,
            _ => return true,
        }
    }
}

/// Elements that say nothing or say it again in another way.
fn is_left_out(element: &Element) -> bool {
    matches!(element.name(), "annotation" | "annotation-xml" | "mphantom" | "mprescripts" | "none")
}

struct Open {
    id: Id,
    children: usize,
    /// What is written when it ends.
    close: String,
}

/// The formula in a line, such as `x^2/(a+b)`.
fn line(dom: &Dom, math: Id) -> String {
    let mut text = String::new();
    let mut open = vec![Open { id: math, children: 0, close: String::new() }];
    let mut next = dom.first(math);
    // Whether an exponent or an index has just ended.
    let mut scripted = false;
    loop {
        let Some(id) = next else {
            let Some(ended) = open.pop() else { break };
            scripted |= dom.element(ended.id).is_some_and(|element| is_script(element.name()));
            text.push_str(&ended.close);
            if open.is_empty() {
                break;
            }
            next = dom.next(ended.id);
            continue;
        };
        next = dom.next(id);
        match dom.data(id) {
            Data::Text(words) => word(&mut text, words, &mut scripted),
            Data::Element(element) if !is_left_out(element) => {
                let Some(parent) = open.last_mut() else { break };
                let child = parent.children;
                parent.children += 1;
                let name = dom.element(parent.id).map_or("", Element::name);
                let last = !siblings_follow(dom, id);
                let (before, behind) = match (name, child) {
                    // The index of a root comes second and is written first.
                    ("mroot", 0) => ("root(", ""),
                    ("mroot", _) => (", ", ")"),
                    _ => signs(name, child, last),
                };
                let brackets = name != "mroot" && needs_brackets(dom, id, name, child);
                text.push_str(before);
                text.push_str(if brackets { "(" } else { "" });
                let close = format!("{}{behind}", if brackets { ")" } else { "" });
                open.push(Open { id, children: 0, close });
                next = dom.first(id);
            }
            _ => {}
        }
    }
    text.trim().to_owned()
}

fn siblings_follow(dom: &Dom, id: Id) -> bool {
    let following = std::iter::successors(dom.next(id), |id| dom.next(*id));
    following.take(8).any(|id| dom.element(id).is_some_and(|element| !is_left_out(element)))
}

/// Adds what a number, a name or a sign is called. Signs between others stand
/// free, so that `a+b=c` is read as it is shown.
fn word(text: &mut String, words: &str, scripted: &mut bool) {
    let word = words.split_whitespace().collect::<Vec<_>>().join(" ");
    // Function application, invisible times and the like.
    let word: String = word.chars().filter(|c| !matches!(c, '\u{2061}'..='\u{2064}' | '\u{200b}')).collect();
    match word.as_str() {
        "=" | "≠" | "<" | ">" | "≤" | "≥" | "≈" | "≡" | "→" | "∈" | "⇒" | "⇔" | "±" | "×" | "⋅" =>
        {
            text.push(' ');
            text.push_str(&word);
            text.push(' ');
        }
        "" => return,
        _ => {
            let joins =
                text.ends_with(|c: char| c.is_alphanumeric()) && word.starts_with(|c: char| c.is_alphanumeric());
            // Two names beside one another are a product, two long words are not one.
            if joins && (*scripted || word.chars().count() > 1 || ends_with_word(text)) {
                text.push(' ');
            }
            text.push_str(&word);
        }
    }
    *scripted = false;
}

fn is_script(name: &str) -> bool {
    matches!(name, "msup" | "msub" | "msubsup" | "munder" | "mover" | "munderover")
}

fn ends_with_word(text: &str) -> bool {
    let mut last = text.chars().rev();
    last.next().is_some_and(char::is_alphabetic) && last.next().is_some_and(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::web::budget::Budget;
    use crate::tools::web::html::{DOCUMENT, Syntax, parse};

    fn read(html: &str) -> Formula {
        let budget = Budget::new(tokio_util::sync::CancellationToken::new(), std::time::Duration::from_secs(60));
        let dom = parse(html, Syntax::Html, &budget).unwrap_or_else(|_| panic!("no tree"));
        let math = dom.below(DOCUMENT).find(|id| dom.element(*id).is_some_and(|element| element.name() == "math"));
        formula(&dom, math.expect("a formula"))
    }

    #[test]
    fn the_tex_of_a_formula_is_preferred() {
        let tex = "<math><semantics><mi>x</mi><annotation encoding='application/x-tex'>{\\displaystyle x^{2}\n}</annotation></semantics></math>";
        assert_eq!(read(tex), Formula::Tex("x^{2}".into()));
        assert_eq!(read("<math alttext='\\pi r^2'><mi>y</mi></math>"), Formula::Tex("\\pi r^2".into()));
    }

    #[test]
    fn others_are_written_in_a_line() {
        for (inner, line) in [
            ("<mi>E</mi><mo>=</mo><mi>m</mi><msup><mi>c</mi><mn>2</mn></msup>", "E = mc^2"),
            ("<mfrac><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mn>2</mn></mfrac>", "(a+b)/2"),
            ("<msqrt><mi>x</mi><mo>+</mo><mn>1</mn></msqrt>", "√(x+1)"),
            ("<mroot><mi>x</mi><mn>3</mn></mroot>", "root(x, 3)"),
            ("<msubsup><mi>x</mi><mi>i</mi><mrow><mi>n</mi><mo>-</mo><mn>1</mn></mrow></msubsup>", "x_i^(n-1)"),
            (
                "<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover><mi>i</mi>",
                "∑_(i = 1)^n i",
            ),
            ("<mi>sin</mi><mo>&#x2061;</mo><mi>x</mi>", "sin x"),
            ("<mn>2</mn><mi>x</mi>", "2x"),
            (
                "<mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>0</mn></mtd></mtr><mtr><mtd><mn>0</mn></mtd><mtd><mn>1</mn></mtd></mtr></mtable>",
                "[1, 0; 0, 1]",
            ),
            ("<mphantom><mi>x</mi></mphantom>", ""),
        ] {
            assert_eq!(read(&format!("<math>{inner}</math>")), Formula::Line(line.into()), "{inner}");
        }
    }
}
