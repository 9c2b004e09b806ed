//! Query strings, read strictly: an unknown or repeated parameter is an error,
//! so that a misspelt filter never answers with everything.

use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::str::FromStr;

use actix_web::{FromRequest, HttpRequest, dev, web};

use super::Problem;

/// The parameters of one request, taken out one by one.
#[derive(Debug)]
pub struct Query(BTreeMap<String, String>);

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
    /// When a parameter is given twice or the encoding is broken.
    pub fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        let pairs = pairs.map_err(|error| Problem::bad_request("invalid_query", error.to_string()))?;
        let mut map = BTreeMap::new();
        for (name, value) in pairs.into_inner() {
            if map.insert(name.clone(), value).is_some() {
                return Err(Problem::invalid(format!("?{name}"), "given twice"));
            }
        }
        Ok(Self(map))
    }

    /// Takes a parameter out as it is.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// Takes a parameter out and reads it; `expected` says what it should be.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn value<T: FromStr>(&mut self, name: &str, expected: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let value =
            text.parse().map_err(|_| Problem::invalid(format!("?{name}"), format!("{text:?} is not {expected}")))?;
        Ok(Some(value))
    }

    /// Takes out every parameter whose name begins with `prefix`, without it.
    pub fn with_prefix(&mut self, prefix: &str) -> Vec<(String, String)> {
        let names: Vec<_> = self.0.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        let taken = names.into_iter().filter_map(|name| {
            let value = self.0.remove(&name)?;
            Some((name[prefix.len()..].to_owned(), value))
        });
        taken.collect()
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// When a parameter has not been taken out, with the nearest known name.
    pub fn finish(self, known: &[&str]) -> Result<(), Problem> {
        let Some(name) = self.0.into_keys().next() else { return Ok(()) };
        let problem = Problem::invalid(format!("?{name}"), "unknown parameter");
        let near =
            known.iter().max_by(|a, b| strsim::jaro_winkler(a, &name).total_cmp(&strsim::jaro_winkler(b, &name)));
        Err(match near {
            Some(near) => problem.with_hint(format!("known are {}; did you mean {near}?", known.join(", "))),
            None => problem.with_hint("this route takes no parameters"),
        })
    }
}
