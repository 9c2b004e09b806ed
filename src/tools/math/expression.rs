//! Arithmetic by the usual rules. From what binds least to what binds most:
//!
//! ```text
//! sum     = product { ("+" | "-") product }            from left to right
//! product = signed { ("*" | "/") signed }              from left to right
//! signed  = { "+" | "-" } power                        so -2^2 is -(2^2)
//! power   = operand [ "^" signed ]                     so 2^3^2 is 2^(3^2)
//! operand = function { "+" | "-" } operand | atom      so sin 2^2 is (sin 2)^2
//! atom    = number | name | "{" name "}" | "(" sum ")" | function "(" sum { "," sum } ")"
//! ```

use std::collections::BTreeMap;

/// Brackets inside one another, at most: only they are read recursively.
const MAX_DEPTH: usize = 50;

/// Computes an expression.
///
/// # Errors
/// What of it is none, and where.
pub(super) fn compute(text: &str, variables: &BTreeMap<String, f64>) -> Result<f64, String> {
    let mut reader = Reader { text, at: 0, depth: 0, variables };
    let value = reader.sum()?;
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.unexpected("an operator")),
    }
}

/// A function of one value.
type OfOne = fn(f64) -> f64;
/// A function of several values; none when it does not take so many.
type OfMany = fn(&[f64]) -> Option<f64>;

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    variables: &'a BTreeMap<String, f64>,
}

impl<'a> Reader<'a> {
    /// The next character that is no white space.
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[self.at..].chars().next()
    }

    fn take(&mut self, signs: &[char]) -> Option<char> {
        let sign = self.peek().filter(|sign| signs.contains(sign))?;
        self.at += sign.len_utf8();
        Some(sign)
    }

    fn unexpected(&mut self, wanted: &str) -> String {
        let found = self.peek();
        let place = self.text[..self.at].chars().count() + 1;
        match found {
            None => format!("the expression ends where {wanted} is expected"),
            Some(found) => format!("character {place} is {found:?}, where {wanted} is expected"),
        }
    }

    fn sum(&mut self) -> Result<f64, String> {
        let mut value = self.product()?;
        while let Some(sign) = self.take(&['+', '-', '−']) {
            let next = self.product()?;
            value = if sign == '+' { value + next } else { value - next };
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<f64, String> {
        let mut value = self.signed()?;
        while let Some(sign) = self.take(&['*', '/', '×', '·', '÷']) {
            let next = self.signed()?;
            value = if matches!(sign, '/' | '÷') { value / next } else { value * next };
        }
        Ok(value)
    }

    /// Whether an odd number of minus signs comes next.
    fn negative(&mut self) -> bool {
        let mut negative = false;
        while let Some(sign) = self.take(&['+', '-', '−']) {
            negative ^= sign != '+';
        }
        negative
    }

    /// A tower of powers with a sign before each, computed from its top.
    fn signed(&mut self) -> Result<f64, String> {
        let mut tower = Vec::new();
        loop {
            let negative = self.negative();
            tower.push((negative, self.operand()?));
            if self.take(&['^']).is_none() {
                break;
            }
        }
        let signed = |negative: bool, value: f64| if negative { -value } else { value };
        let mut levels = tower.into_iter().rev();
        let top = levels.next().map_or(0.0, |(negative, value)| signed(negative, value));
        Ok(levels.fold(top, |exponent, (negative, base)| signed(negative, base.powf(exponent))))
    }

    /// A number, a name or a bracket, with functions before it.
    fn operand(&mut self) -> Result<f64, String> {
        let mut functions: Vec<(bool, OfOne)> = Vec::new();
        let value = loop {
            // Only what a function is applied to may have a sign here.
            let negative = !functions.is_empty() && self.negative();
            match self.peek() {
                Some('(') => break self.in_brackets(negative)?,
                Some(c) if c.is_ascii_digit() || c == '.' => break signed(negative, self.number()?),
                Some(c) if c.is_alphabetic() || matches!(c, '_' | '{') => {
                    let name = self.name()?;
                    if let Some(value) = self.variables.get(name).copied().or_else(|| constant(name)) {
                        break signed(negative, value);
                    }
                    if let Some(function) = of_many(name) {
                        break signed(negative, self.call(name, function)?);
                    }
                    let function = of_one(name);
                    let unknown = || format!("{name:?} is neither a function nor a given variable");
                    functions.push((negative, function.ok_or_else(unknown)?));
                }
                _ => return Err(self.unexpected("a number, a name or a bracket")),
            }
        };
        Ok(functions.into_iter().rev().fold(value, |value, (negative, function)| signed(negative, function(value))))
    }

    fn in_brackets(&mut self, negative: bool) -> Result<f64, String> {
        let values = self.list()?;
        match values[..] {
            [value] => Ok(signed(negative, value)),
            _ => Err("only min, max and atan2 take more than one value".into()),
        }
    }

    fn call(&mut self, name: &str, function: fn(&[f64]) -> Option<f64>) -> Result<f64, String> {
        if self.peek() != Some('(') {
            return Err(self.unexpected("a bracket"));
        }
        let values = self.list()?;
        function(&values).ok_or_else(|| format!("{name} does not take {} values", values.len()))
    }

    /// Values in brackets.
    fn list(&mut self) -> Result<Vec<f64>, String> {
        if self.depth == MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} brackets inside one another"));
        }
        self.depth += 1;
        self.take(&['(']);
        let mut values = vec![self.sum()?];
        while self.take(&[',']).is_some() {
            values.push(self.sum()?);
        }
        if self.take(&[')']).is_none() {
            return Err(self.unexpected("a closing bracket"));
        }
        self.depth -= 1;
        Ok(values)
    }

    fn number(&mut self) -> Result<f64, String> {
        let rest = &self.text[self.at..];
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let mut end = digits(rest);
        if rest[end..].starts_with('.') {
            end += 1 + digits(&rest[end + 1..]);
        }
        // An exponent is one only with digits; else it is a name.
        if let Some(exponent) = rest[end..].strip_prefix(['e', 'E']) {
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let length = digits(unsigned);
            end += if length > 0 { 1 + exponent.len() - unsigned.len() + length } else { 0 };
        }
        let number = &rest[..end];
        let value = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
        self.at += end;
        Ok(value)
    }

    /// A name; one in curly brackets may hold any characters.
    fn name(&mut self) -> Result<&'a str, String> {
        let rest = &self.text[self.at..];
        if let Some(braced) = rest.strip_prefix('{') {
            let end = braced.find('}').ok_or("a curly bracket is not closed")?;
            self.at += end + 2;
            return Ok(&braced[..end]);
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        Ok(&rest[..end])
    }
}

fn signed(negative: bool, value: f64) -> f64 {
    if negative { -value } else { value }
}

fn constant(name: &str) -> Option<f64> {
    Some(match name {
        "PI" | "pi" | "Pi" | "π" => std::f64::consts::PI,
        "E" | "e" => std::f64::consts::E,
        "TAU" | "tau" | "Tau" | "τ" => std::f64::consts::TAU,
        _ => return None,
    })
}

fn of_one(name: &str) -> Option<OfOne> {
    Some(match name.to_ascii_lowercase().as_str() {
        "abs" => f64::abs,
        "signum" => f64::signum,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "floor" => f64::floor,
        "round" => f64::round,
        "ceil" => f64::ceil,
        "trunc" => f64::trunc,
        "fract" => f64::fract,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "cbrt" => f64::cbrt,
        "ln" | "log" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        _ => return None,
    })
}

fn of_many(name: &str) -> Option<OfMany> {
    Some(match name.to_ascii_lowercase().as_str() {
        "min" => |values| values.iter().copied().reduce(f64::min),
        "max" => |values| values.iter().copied().reduce(f64::max),
        "atan2" => |values| if let [y, x] = values { Some(y.atan2(*x)) } else { None },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> f64 {
        compute(text, &BTreeMap::new()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn error(text: &str) -> String {
        compute(text, &BTreeMap::new()).expect_err(text)
    }

    #[test]
    fn operators_bind_as_usual() {
        for (text, is) in [
            ("-2^2", -4.0),
            ("(-2)^2", 4.0),
            ("2^3^2", 512.0),
            ("(2^3)^2", 64.0),
            ("2^-1", 0.5),
            ("-2^-2", -0.25),
            ("2^-2^2", 0.0625),
            ("-2^0.5^2", -(2.0_f64.powf(0.25))),
            ("--2", 2.0),
            ("-+-2", 2.0),
            ("2*-3", -6.0),
            ("2--3", 5.0),
            ("2+-3", -1.0),
            ("2 - 3 - 4", -5.0),
            ("2 - 3 + 4", 3.0),
            ("24/4/2", 3.0),
            ("24/4*2", 12.0),
            ("2*3^2", 18.0),
            ("6/2^2", 1.5),
            ("1 + 2 * 3 - 4 / 2", 5.0),
            ("10 × 2 ÷ 4 − 1", 4.0),
        ] {
            assert!((value(text) - is).abs() < 1e-12, "{text} is {}", value(text));
        }
    }

    #[test]
    fn functions_come_before_powers() {
        let sine = 2.0_f64.sin();
        for (text, is) in [
            ("sin(2)^2", sine.powi(2)),
            ("sin 2^2", sine.powi(2)),
            ("-sin(2)^2", -sine.powi(2)),
            ("sin -2", -sine),
            ("sin(-2)", -sine),
            ("sqrt(16) + 1", 5.0),
            ("sqrt sqrt 16", 2.0),
            ("2^sqrt(4)", 4.0),
            ("2 * abs(-3)", 6.0),
            ("min(3, 1, 2) + max(1, 2)", 3.0),
            ("atan2(0, 1)", 0.0),
            ("log10(1000)", 3.0),
            ("PI - pi + π", std::f64::consts::PI),
            ("ln(e)", 1.0),
            ("1.5e3 + .5 + 5.", 1505.5),
            ("1E-2", 0.01),
        ] {
            assert!((value(text) - is).abs() < 1e-12, "{text} is {}", value(text));
        }
        let variables = BTreeMap::from([("e".to_owned(), 5.0), ("a b".to_owned(), 2.0), ("größe".to_owned(), 3.0)]);
        assert!((compute("e + {a b} * größe", &variables).expect("a value") - 11.0).abs() < 1e-12);
    }

    #[test]
    fn what_is_no_expression_says_where() {
        assert_eq!(error("2 +"), "the expression ends where a number, a name or a bracket is expected");
        assert_eq!(error("2 % 3"), "character 3 is '%', where an operator is expected");
        assert_eq!(error("2x"), "character 2 is 'x', where an operator is expected");
        assert_eq!(error("(2"), "the expression ends where a closing bracket is expected");
        assert_eq!(error("x + 1"), "\"x\" is neither a function nor a given variable");
        assert_eq!(error("(1, 2)"), "only min, max and atan2 take more than one value");
        assert_eq!(error("atan2(1)"), "atan2 does not take 1 values");
        assert_eq!(error("1 2"), "character 3 is '2', where an operator is expected");
        assert_eq!(error("."), "\".\" is not a number");
        assert!(error(&"(".repeat(200)).contains("brackets inside one another"));
        for text in ["", "sin", "min", "min()", "()", ")", "{x", "2**3", "3!", "a b", "1..2"] {
            let _ = error(text);
        }
    }

    /// An expression as a tree.
    #[derive(Clone, Debug)]
    enum Tree {
        Number(u32),
        Negative(Box<Tree>),
        Root(Box<Tree>),
        Binary(char, Box<Tree>, Box<Tree>),
    }

    impl Tree {
        /// How tightly its outermost part binds.
        fn strength(&self) -> u8 {
            match self {
                Self::Binary('+' | '-', ..) => 1,
                Self::Binary('*' | '/', ..) => 2,
                Self::Negative(_) => 3,
                Self::Binary(..) => 4,
                Self::Number(_) | Self::Root(_) => 5,
            }
        }

        /// Computed from the tree itself.
        fn value(&self) -> f64 {
            match self {
                Self::Number(number) => f64::from(*number),
                Self::Negative(inner) => -inner.value(),
                Self::Root(inner) => inner.value().sqrt(),
                Self::Binary(sign, left, right) => {
                    let (left, right) = (left.value(), right.value());
                    match sign {
                        '+' => left + right,
                        '-' => left - right,
                        '*' => left * right,
                        '/' => left / right,
                        _ => left.powf(right),
                    }
                }
            }
        }

        /// Written with brackets only where the rules of precedence need them.
        fn text(&self, least: u8) -> String {
            let text = match self {
                Self::Number(number) => number.to_string(),
                Self::Negative(inner) => format!("-{}", inner.text(3)),
                Self::Root(inner) => format!("sqrt({})", inner.text(1)),
                Self::Binary('^', left, right) => format!("{}^{}", left.text(5), right.text(3)),
                Self::Binary(sign @ ('+' | '-'), left, right) => format!("{} {sign} {}", left.text(1), right.text(2)),
                Self::Binary(sign, left, right) => format!("{}{sign}{}", left.text(2), right.text(3)),
            };
            if self.strength() < least { format!("({text})") } else { text }
        }
    }

    fn tree() -> impl Strategy<Value = Tree> {
        (0_u32..9).prop_map(Tree::Number).prop_recursive(5, 40, 2, |inner| {
            prop_oneof![
                inner.clone().prop_map(|inner| Tree::Negative(Box::new(inner))),
                inner.clone().prop_map(|inner| Tree::Root(Box::new(inner))),
                (prop::sample::select(vec!['+', '-', '*', '/', '^']), inner.clone(), inner)
                    .prop_map(|(sign, left, right)| Tree::Binary(sign, Box::new(left), Box::new(right))),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_by_the_rules_is_read_by_them(tree in tree()) {
            let text = tree.text(1);
            let (read, expected) = (value(&text), tree.value());
            prop_assert!(read.to_bits() == expected.to_bits() || (read.is_nan() && expected.is_nan()), "{text}: {read} {expected}");
        }

        #[test]
        fn any_text_is_read(text in "([-+*/^(){},.0-9eE πé]|sin|sqrt|min|x){0,60}") {
            let _ = compute(&text, &BTreeMap::from([("x".to_owned(), 2.0)]));
        }
    }
}
