//! Query strings. The service's own routes read them strictly: an unknown or repeated parameter is an error, so
//! that a misspelt filter never answers with everything. The routes of `OpenAI`'s interface ignore what they do
//! not know, as its clients add parameters that other services understand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::future::{Ready, ready};
use std::ops::RangeInclusive;
use std::str::FromStr;

use actix_web::{FromRequest, HttpRequest, dev, web};

use super::Problem;
use super::route::OpenAiErrors;
use crate::clock::Timestamp;
use crate::text::near;

/// The parameters of one request, taken out one by one.
#[derive(Debug)]
pub struct Query {
    values: BTreeMap<String, String>,
    /// Names that are given more than once.
    repeated: BTreeSet<String>,
    /// A parameter that was taken out and is given more than once.
    ambiguous: Option<String>,
    /// Whether unknown parameters are errors.
    strict: bool,
}

/// The extractor of routes that take no parameters.
#[derive(Clone, Copy, Debug)]
pub struct NoQuery;

impl FromRequest for NoQuery {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let none = Query::of(request).and_then(|query| query.finish(&[]));
        ready(none.map(|()| Self))
    }
}

impl Query {
    /// Reads the query string.
    ///
    /// # Errors
    /// When a parameter is given twice on a route that is strict, or the encoding is broken.
    pub fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let strict = request.app_data::<OpenAiErrors>().is_none();
        Self::read(request.query_string(), strict)
    }

    fn read(text: &str, strict: bool) -> Result<Self, Problem> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(text);
        let pairs = pairs.map_err(|error| Problem::bad_request("invalid_query", error.to_string()))?;
        let mut query = Self { values: BTreeMap::new(), repeated: BTreeSet::new(), ambiguous: None, strict };
        for (name, value) in pairs.into_inner() {
            if query.values.insert(name.clone(), value).is_some() {
                if strict {
                    return Err(twice(&name));
                }
                query.repeated.insert(name);
            }
        }
        Ok(query)
    }

    /// Takes a parameter out as it is.
    pub fn text(&mut self, name: &str) -> Option<String> {
        if self.repeated.contains(name) {
            self.ambiguous.get_or_insert_with(|| name.to_owned());
        }
        self.values.remove(name)
    }

    /// Takes a parameter out and reads it; `expected` says what it must be, such as "true or false".
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn value<T: FromStr>(&mut self, name: &str, expected: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let value = text.parse().map_err(|_| Problem::invalid(format!("?{name}"), format!("must be {expected}")))?;
        Ok(Some(value))
    }

    /// Takes a whole number out.
    ///
    /// # Errors
    /// When it is none, or not in this range.
    pub fn whole<T>(&mut self, name: &str, range: RangeInclusive<T>) -> Result<Option<T>, Problem>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            let detail = format!("must be a whole number from {} to {}", range.start(), range.end());
            Problem::invalid(format!("?{name}"), detail)
        })
    }

    /// Takes a time out. The `+` of an offset arrives as a blank where a client has not encoded it.
    ///
    /// # Errors
    /// When it is none.
    pub fn time(&mut self, name: &str) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let with_plus = || {
            let (moment, offset) = text.rsplit_once(' ')?;
            Timestamp::parse(&format!("{moment}+{offset}"))
        };
        Timestamp::parse(&text).or_else(with_plus).map(Some).ok_or_else(|| {
            let problem = Problem::invalid(format!("?{name}"), format!("must be {}", Timestamp::EXPECTED));
            problem.with_hint("in a query, the + of an offset is written %2B: 2030-01-31T09:30:00%2B02:00")
        })
    }

    /// Takes out every parameter whose name begins with `prefix`, without it.
    pub fn with_prefix(&mut self, prefix: &str) -> Vec<(String, String)> {
        let names: Vec<_> = self.values.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        let taken = names.into_iter().filter_map(|name| {
            let value = self.values.remove(&name)?;
            Some((name[prefix.len()..].to_owned(), value))
        });
        taken.collect()
    }

    /// Nothing may be left on a route that is strict.
    ///
    /// # Errors
    /// When a parameter has not been taken out, with the nearest known name, or was given twice.
    pub fn finish(self, known: &[&str]) -> Result<(), Problem> {
        if let Some(name) = self.ambiguous {
            return Err(twice(&name));
        }
        let Some(name) = self.values.into_keys().next().filter(|_| self.strict) else { return Ok(()) };
        let problem = Problem::invalid(format!("?{name}"), "unknown parameter");
        Err(match near(&name, known.iter().copied()) {
            _ if known.is_empty() => problem.with_hint("this route takes no parameters"),
            Some(near) => problem.with_hint(format!("known are {}; did you mean {near}?", known.join(", "))),
            None => problem.with_hint(format!("known are {}", known.join(", "))),
        })
    }
}

fn twice(name: &str) -> Problem {
    Problem::invalid(format!("?{name}"), "given twice")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict(text: &str) -> Query {
        Query::read(text, true).expect("it can be read")
    }

    #[test]
    fn a_plus_in_a_time_is_understood() {
        let moment = Timestamp::parse("2024-01-01T00:00:00+02:00").expect("a time");
        for text in ["2024-01-01T00:00:00+02:00", "2024-01-01T00:00:00%2B02:00", "2023-12-31T22:00:00Z"] {
            assert_eq!(strict(&format!("since={text}")).time("since").ok(), Some(Some(moment)), "{text}");
        }
        for text in ["", "2024", "yesterday", "+02:00", "2024-01-01T00:00:00+", "2024-01-01T00:00:00+02:00+"] {
            let fault = strict(&format!("since={text}")).time("since").expect_err(text);
            assert!(fault.detail().contains("such as 2030-01-31T09:30:00Z"), "{fault}");
        }
    }

    #[test]
    fn numbers_are_whole_and_in_their_range() {
        assert_eq!(strict("n=5").whole("n", 1..=9).ok(), Some(Some(5)));
        assert_eq!(strict("").whole("n", 1..=9).ok(), Some(None));
        for text in ["0", "10", "1.0", "x", "", "5 ", "99999999999999999999"] {
            let fault = strict(&format!("n={text}")).whole("n", 1..=9).expect_err(text);
            assert_eq!(fault.detail(), "?n: must be a whole number from 1 to 9", "{text}");
        }
    }

    #[test]
    fn strict_routes_refuse_what_lenient_ones_ignore() {
        assert!(Query::read("a=1&a=2", true).is_err());
        assert!(strict("b=1").finish(&["a"]).is_err());
        let lenient = |text: &str| {
            let mut query = Query::read(text, false).expect("it can be read");
            let number = query.whole("a", 1..=9)?;
            query.with_prefix("include");
            query.finish(&["a", "include"]).map(|()| number)
        };
        for text in ["a=1", "a=1&b=2", "a=1&b=2&b=3&c", "a=1&include[]=x&include[]=y"] {
            assert_eq!(lenient(text).ok(), Some(Some(1)), "{text}");
        }
        assert!(lenient("a=1&a=1").is_err_and(|problem| problem.detail().contains("given twice")));
        assert!(lenient("a=x&b=1").is_err());
    }
}
