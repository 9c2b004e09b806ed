//! What stands in a paragraph, a heading or a cell of a table: text with its
//! emphasis, code, formulas, links and line breaks.

use super::escape::{self, Place};

/// How a text is emphasised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Style {
    #[default]
    None,
    Em,
    Strong,
    Both,
    Struck,
}

impl Style {
    fn marks(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Em => "*",
            Self::Strong => "**",
            Self::Both => "***",
            Self::Struck => "~~",
        }
    }
}

/// Where a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Paragraph,
    Heading,
    Cell,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String, Style),
    Code(String),
    /// A formula in TeX.
    Tex(String),
    /// A link begins; its address.
    Link(String),
    LinkEnd,
    Break,
}

/// Takes what stands in a line, in the order of the text. White space is
/// collapsed as browsers do it.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is something that waits by itself for the next word")]
pub(super) struct Inline {
    pieces: Vec<Piece>,
    /// White space, line breaks and the begin of a link are written when
    /// something follows.
    space: bool,
    space_in_code: bool,
    broken: bool,
    link: Option<String>,
    in_link: bool,
    /// Whether the next text gets a piece of its own.
    split: bool,
    /// Whether the next word must not touch the one before it.
    apart: bool,
    /// Counts what has been taken.
    line: usize,
}

/// A place between pieces, to which [`Inline::raise`] goes back.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    piece: usize,
    /// Which line it is in.
    line: usize,
    /// Whether a link begins with it.
    linked: bool,
}

impl Inline {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether a line break waits for what follows it.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Adds text as it stands in the document.
    pub(super) fn text(&mut self, text: &str, style: Style) {
        self.words(text, false, |word| Piece::Text(word, style));
    }

    pub(super) fn code(&mut self, text: &str) {
        self.words(text, true, Piece::Code);
    }

    fn words(&mut self, text: &str, code: bool, piece: impl Fn(String) -> Piece) {
        let is_blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}');
        let mut rest = text;
        while !rest.is_empty() {
            let word = rest.trim_start_matches(is_blank);
            if word.len() < rest.len() {
                (self.space, self.space_in_code) = (true, code);
            }
            let (word, behind) = word.split_at(word.find(is_blank).unwrap_or(word.len()));
            rest = behind;
            let word: String = word.chars().filter(|c| !is_invisible(*c)).collect();
            if !word.is_empty() {
                self.word(piece(word), code);
            }
        }
    }

    fn word(&mut self, word: Piece, code: bool) {
        let starts = word.first(Kind::Paragraph).is_some_and(char::is_alphanumeric);
        let last = || self.pieces.last().and_then(|piece| piece.last(Kind::Paragraph));
        let ended = || last().is_some_and(char::is_alphanumeric);
        self.space |= std::mem::take(&mut self.apart) && starts && ended();
        let waits = self.broken || self.link.is_some() || self.split || (self.space && code && !self.space_in_code);
        if !waits
            && let Some(last) = self.pieces.last_mut()
            && last.takes(&word)
            && let (Some(last), Some(word)) = (last.plain_mut(), word.plain())
        {
            if std::mem::take(&mut self.space) {
                last.push(' ');
            }
            last.push_str(word);
            return;
        }
        self.settle();
        self.split = false;
        self.pieces.push(word);
    }

    /// Writes what waited for something to follow.
    fn settle(&mut self) {
        let space = std::mem::take(&mut self.space);
        if std::mem::take(&mut self.broken) {
            self.pieces.push(Piece::Break);
        } else if space && !self.pieces.is_empty() {
            match self.pieces.last_mut() {
                Some(Piece::Text(last, _)) if last.ends_with(' ') => {}
                Some(Piece::Text(last, Style::None)) if !self.split => last.push(' '),
                _ => self.pieces.push(Piece::Text(" ".into(), Style::None)),
            }
        }
        if let Some(link) = self.link.take() {
            self.in_link = true;
            self.pieces.push(Piece::Link(link));
        }
    }

    /// Takes back a space or a break that nothing has followed.
    fn unsettle(&mut self) {
        self.space |= matches!(self.pieces.last(), Some(Piece::Text(text, _)) if text.ends_with(' '));
        self.broken |= matches!(self.pieces.last(), Some(Piece::Break));
        trim(&mut self.pieces);
        self.split = false;
    }

    pub(super) fn line_break(&mut self) {
        self.broken = !self.pieces.is_empty();
        self.space = false;
    }

    /// Adds a formula.
    pub(super) fn tex(&mut self, tex: String) {
        if !tex.is_empty() {
            self.settle();
            self.split = false;
            self.pieces.push(Piece::Tex(tex));
        }
    }

    /// Adds what is not part of the words around it, such as the text in place
    /// of a picture.
    pub(super) fn apart(&mut self, text: &str, style: Style) {
        self.apart = true;
        self.text(text, style);
        self.apart = true;
    }

    /// Begins a link. One inside another is text.
    pub(super) fn open_link(&mut self, address: String) {
        if !self.in_link {
            self.link = Some(address);
        }
    }

    pub(super) fn close_link(&mut self) {
        self.link = None;
        if std::mem::take(&mut self.in_link) {
            self.pieces.push(Piece::LinkEnd);
        }
    }

    /// Where a raised or lowered text begins.
    pub(super) fn mark(&mut self) -> Mark {
        let link = self.link.take();
        if (self.space || self.broken) && !self.pieces.is_empty() {
            self.settle();
        }
        self.link = link;
        self.split = true;
        Mark { piece: self.pieces.len(), line: self.line, linked: self.link.is_some() }
    }

    /// Writes what was added since a mark so that it cannot be taken for a part
    /// of the number or the word before it: `10^6`, `H_2O`, and `[1]` for what
    /// leads to a footnote.
    pub(super) fn raise(&mut self, mark: Mark, sign: char) {
        if mark.line != self.line {
            return;
        }
        if mark.piece == self.pieces.len() {
            return self.unsettle();
        }
        self.split = true;
        let before = mark.piece.checked_sub(1).and_then(|at| self.pieces.get(at)?.last(Kind::Paragraph));
        let pieces = self.pieces.get_mut(mark.piece..).unwrap_or_default();
        if mark.linked || pieces.iter().any(|piece| matches!(piece, Piece::Link(_))) {
            for piece in pieces {
                if let Piece::Text(text, _) = piece
                    && text.chars().count() <= 8
                    && text.chars().all(|c| c.is_alphanumeric() || "*†‡§¶#".contains(c))
                {
                    *text = format!("[{text}]");
                }
            }
            return;
        }
        let (Some(first), true) = (pieces.first(), pieces.iter().all(|piece| piece.plain().is_some())) else { return };
        let short: String = pieces.iter().filter_map(Piece::plain).flat_map(str::chars).take(80).collect();
        if first.plain().is_none() || !needs_sign(&short, before, sign) {
            return;
        }
        let simple = short.chars().count() == 1
            || short.trim_start_matches(['-', '+', '−', '–']).chars().all(|c| c.is_ascii_digit() || c == '.');
        let (open, close) = if simple { (sign.to_string(), "") } else { (format!("{sign}("), ")") };
        if let Some(text) = pieces.first_mut().and_then(Piece::plain_mut) {
            text.insert_str(0, &open);
        }
        if let Some(text) = pieces.last_mut().and_then(Piece::plain_mut) {
            text.push_str(close);
        }
    }

    /// The text that was added, without any markup, and begins anew.
    pub(super) fn take_plain(&mut self, kind: Kind) -> String {
        let mut text = String::new();
        for piece in self.take() {
            match piece {
                Piece::Text(piece, _) | Piece::Code(piece) => text.push_str(&piece),
                Piece::Tex(tex) => text.extend(["$", &tex, "$"]),
                Piece::Break => text.push(if kind == Kind::Paragraph { '\n' } else { ' ' }),
                Piece::Link(_) | Piece::LinkEnd => {}
            }
        }
        text
    }

    /// What was added, as Markdown, and begins anew. A paragraph is still to be
    /// protected by [`escape::paragraph`].
    pub(super) fn take_markdown(&mut self, kind: Kind) -> String {
        let mut pieces = self.take();
        let mut linked = false;
        for piece in &mut pieces {
            linked = matches!(piece, Piece::Link(_)) || (linked && *piece != Piece::LinkEnd);
            piece.without_doubt(kind, linked);
        }
        let tildes: usize = pieces.iter().map(Piece::tildes).sum();
        Render { kept: kept(&pieces, kind), pieces: &pieces, kind, tildes: tildes > 1, text: String::new() }.run()
    }

    /// An open link goes on in what is begun.
    fn take(&mut self) -> Vec<Piece> {
        let mut pieces = std::mem::take(&mut self.pieces);
        if self.in_link {
            self.in_link = false;
            let address = pieces.iter().rev().find_map(|piece| match piece {
                Piece::Link(address) => Some(address.clone()),
                _ => None,
            });
            pieces.push(Piece::LinkEnd);
            self.link = address;
        }
        self.line += 1;
        (self.space, self.broken, self.split, self.apart) = (false, false, false, false);
        let mut joined: Vec<Piece> = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match joined.last_mut().filter(|last| last.takes(&piece)).and_then(Piece::plain_mut) {
                Some(last) => last.push_str(piece.plain().unwrap_or_default()),
                None => joined.push(piece),
            }
        }
        trim(&mut joined);
        joined
    }
}

/// Takes spaces and line breaks off the end.
fn trim(pieces: &mut Vec<Piece>) {
    loop {
        match pieces.last_mut() {
            Some(Piece::Text(last, _)) if last.ends_with(' ') => last.truncate(last.trim_end_matches(' ').len()),
            Some(Piece::Text(last, _)) if !last.is_empty() => return,
            Some(Piece::Text(..) | Piece::Break) => drop(pieces.pop()),
            _ => return,
        }
    }
}

/// Soft hyphens and marks of no width that only say where a line may be broken.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{feff}') || c.is_control()
}

/// Whether a raised text needs a sign; ordinals such as 4th and marks such as ™
/// do not.
fn needs_sign(text: &str, before: Option<char>, sign: char) -> bool {
    const ORDINALS: &[&str] =
        &["st", "nd", "rd", "th", "er", "re", "ère", "ers", "ème", "ième", "nde", "de", "te", "ter", "º", "ª"];
    let of_digits = before.is_some_and(|c| c.is_ascii_digit()) && ORDINALS.contains(&text);
    let has_word = text.chars().any(char::is_alphanumeric);
    has_word && !(text.starts_with(['[', '(']) || sign == '^' && (of_digits || text == "TM" || text == "SM"))
}

impl Piece {
    /// Whether another is only more of the same.
    fn takes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(_, style), Self::Text(_, other)) => style == other,
            (Self::Code(_), Self::Code(_)) => true,
            _ => false,
        }
    }

    fn plain(&self) -> Option<&str> {
        match self {
            Self::Text(text, _) | Self::Code(text) => Some(text),
            _ => None,
        }
    }

    fn plain_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Text(text, _) | Self::Code(text) => Some(text),
            _ => None,
        }
    }

    /// The character that it begins with in Markdown, apart from emphasis and
    /// backslashes; none at the end of a line. Of a line break in a cell that is
    /// the first character of `<br>`.
    fn first(&self, kind: Kind) -> Option<char> {
        match self {
            Self::Text(text, _) => text.chars().next(),
            Self::Code(_) => Some('`'),
            Self::Tex(_) => Some('$'),
            Self::Link(_) => Some('['),
            Self::LinkEnd => Some(']'),
            Self::Break => (kind == Kind::Cell).then_some('<'),
        }
    }

    fn last(&self, kind: Kind) -> Option<char> {
        match self {
            Self::Text(text, _) => text.chars().next_back(),
            Self::LinkEnd => Some(')'),
            Self::Break => (kind == Kind::Cell).then_some('>'),
            other => other.first(kind),
        }
    }

    /// Code that could be taken for something else is text: readers do not agree
    /// on a backslash before a bar in a cell, and a link that begins a paragraph
    /// must not look like the definition of one.
    fn without_doubt(&mut self, kind: Kind, linked: bool) {
        if let Self::Code(code) = self
            && ((kind == Kind::Cell && code.contains("\\|")) || (linked && code.contains("]:")))
        {
            *self = Self::Text(std::mem::take(code), Style::None);
        }
    }

    fn tildes(&self) -> usize {
        match self {
            Self::Text(_, Style::Struck) => 2,
            Self::Text(text, _) => text.bytes().filter(|byte| *byte == b'~').count(),
            _ => 0,
        }
    }
}

/// Of each piece, whether its emphasis can be written so that every reader of
/// Markdown takes it for one: marks must not touch each other, and what is on
/// both sides of a mark must leave no doubt which way it looks.
fn kept(pieces: &[Piece], kind: Kind) -> Vec<bool> {
    let mut kept = vec![false; pieces.len()];
    for (at, piece) in pieces.iter().enumerate() {
        let Piece::Text(text, style) = piece else { continue };
        let (Some(first), Some(last)) = (text.chars().next(), text.chars().next_back()) else { continue };
        let touches = at > 0 && kept[at - 1];
        let before = at.checked_sub(1).and_then(|at| pieces[at].last(kind));
        let after = pieces.get(at + 1).and_then(|piece| piece.first(kind));
        let looks = |inner: char, outer: Option<char>| {
            let free = outer.is_none_or(|c| c.is_whitespace() || c.is_ascii_punctuation());
            !inner.is_whitespace() && (inner.is_alphanumeric() || free)
        };
        kept[at] = *style != Style::None && !touches && looks(first, before) && looks(last, after);
    }
    kept
}

struct Render<'a> {
    pieces: &'a [Piece],
    kept: Vec<bool>,
    kind: Kind,
    tildes: bool,
    text: String,
}

impl Render<'_> {
    fn run(mut self) -> String {
        let mut address = "";
        let mut brackets = false;
        for (at, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Text(text, style) => self.styled(at, text, *style, brackets),
                Piece::Code(code) => escape::code(code, self.kind == Kind::Cell, &mut self.text),
                Piece::Tex(tex) => {
                    self.text.push('$');
                    escape::code(tex, self.kind == Kind::Cell, &mut self.text);
                    self.text.push('$');
                }
                Piece::Link(target) => {
                    address = target;
                    brackets = self.unbalanced(at);
                    self.text.push('[');
                }
                Piece::LinkEnd => {
                    brackets = false;
                    self.text.push_str("](");
                    escape::target(address, &mut self.text);
                    self.text.push(')');
                }
                Piece::Break => self.text.push_str(match self.kind {
                    Kind::Paragraph => "  \n",
                    Kind::Heading => " ",
                    Kind::Cell => "<br>",
                }),
            }
        }
        self.text
    }

    fn styled(&mut self, at: usize, text: &str, style: Style, brackets: bool) {
        let marks = if self.kept[at] { style.marks() } else { "" };
        self.text.push_str(marks);
        let mark = marks.chars().next();
        let place = Place {
            before: mark.or_else(|| self.before(at)),
            after: mark.or_else(|| self.after(at)),
            brackets,
            tildes: self.tildes,
            bars: self.kind == Kind::Cell,
        };
        escape::text(text, place, &mut self.text);
        self.text.push_str(marks);
    }

    /// The character before a piece, as it is written.
    fn before(&self, at: usize) -> Option<char> {
        let at = at.checked_sub(1)?;
        if self.kept[at] { Some('*') } else { self.pieces[at].last(self.kind) }
    }

    fn after(&self, at: usize) -> Option<char> {
        let at = at + 1;
        if *self.kept.get(at)? { Some('*') } else { self.pieces[at].first(self.kind) }
    }

    /// Whether the brackets in a link's text could end it.
    fn unbalanced(&self, link: usize) -> bool {
        let (mut depth, mut opened, mut closed) = (0_usize, false, false);
        for piece in self.pieces[link + 1..].iter().take_while(|piece| **piece != Piece::LinkEnd) {
            let Piece::Text(text, _) = piece else { continue };
            for c in text.chars() {
                match c {
                    '[' => depth += 1,
                    ']' if depth == 0 => return true,
                    ']' => depth -= 1,
                    '(' | ':' if closed => return true,
                    _ => {}
                }
                if closed && c == '[' || c == '!' || (c == '^' && opened) {
                    return true;
                }
                (opened, closed) = (c == '[', c == ']');
            }
        }
        depth != 0
    }
}
