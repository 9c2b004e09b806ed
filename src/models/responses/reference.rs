//! Items that a client names instead of sending them. They stand for what is stored,
//! of this tenant's responses: what a model said, and what it was asked.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::Inner;
use super::create::Asked;
use super::id::ResponseId;
use super::request::without_id;
use super::sql;
use crate::http::Problem;

/// References that one request may have.
const MOST_REFERENCES: usize = 1_000;
/// Bytes of stored responses that are read for them.
const MOST_BYTES: usize = 16 << 20;
/// An item of a provider with the interface has the provider's own id, which does not
/// say where it is. So many of the tenant's newest responses are looked through for it.
const NEWEST: usize = 500;

impl Inner {
    /// Puts what is stored in the place of each reference.
    ///
    /// # Errors
    /// When there is no such item, with its place.
    pub(super) async fn resolve(&self, asked: &mut Asked) -> Result<(), Problem> {
        let wanted = references(&asked.create.input)?;
        if wanted.is_empty() {
            return Ok(());
        }
        let mut found = self.find(asked, wanted.iter().map(|(_, id)| id.clone()).collect()).await?;
        // What a provider with the interface is sent it cannot look up by its id.
        let has_interface = self.has_interface(asked);
        let mut wanted = wanted.into_iter().peekable();
        let mut input = Vec::with_capacity(asked.create.input.len());
        for (place, item) in std::mem::take(&mut asked.create.input).into_iter().enumerate() {
            let Some((_, id)) = wanted.next_if(|(wanted, _)| *wanted == place) else {
                input.push(item);
                continue;
            };
            let stored = found.get_mut(&id).ok_or_else(|| missing(place, &id))?.clone();
            input.extend(if has_interface { without_id(stored) } else { Some(stored) });
        }
        asked.create.input = input;
        Ok(())
    }

    /// The items with these ids, as far as there are any.
    async fn find(&self, asked: &Asked, wanted: HashSet<String>) -> Result<HashMap<String, Value>, Problem> {
        let (tenant, mut found) = (asked.payer.tenant, HashMap::new());
        let mut responses: Vec<_> = wanted.iter().filter_map(|id| ResponseId::of_part(id)).collect();
        responses.sort_unstable();
        responses.dedup();
        if !responses.is_empty() {
            let stored = self.db.read(move |tx| sql::stored(tx, tenant, &responses, MOST_BYTES)).await?;
            take(stored, &wanted, &mut found)?;
        }
        if found.len() < wanted.len() {
            for item in self.context(tenant, asked.create.previous).await? {
                take_item(item, &wanted, &mut found);
            }
        }
        if found.len() < wanted.len() {
            let left: HashSet<_> = wanted.iter().filter(|id| !found.contains_key(*id)).cloned().collect();
            let named = move |text: &str| names(text, &left);
            let stored = self.db.read(move |tx| sql::newest(tx, tenant, NEWEST, MOST_BYTES, named)).await?;
            take(stored, &wanted, &mut found)?;
        }
        Ok(found)
    }
}

/// Where there are references, and to what.
fn references(input: &[Value]) -> Result<Vec<(usize, String)>, Problem> {
    let mut found = Vec::new();
    for (place, item) in input.iter().enumerate() {
        // The type may be left out, and is then told by what else there is not.
        let is_bare = item["type"].is_null() && item["role"].is_null() && item["id"].is_string();
        if item["type"] != "item_reference" && !is_bare {
            continue;
        }
        let fields = item.as_object().into_iter().flatten();
        let odd = fields.filter(|(_, value)| !value.is_null()).find(|(name, _)| *name != "type" && *name != "id");
        if let Some((name, _)) = odd {
            return Err(Problem::invalid(format!("/input/{place}/{name}"), "has no place in an item_reference"));
        }
        let id = item["id"].as_str().filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| Problem::invalid(format!("/input/{place}/id"), "must be the id of an item"))?;
        found.push((place, id.to_owned()));
        if found.len() > MOST_REFERENCES {
            let detail = format!("is the reference number {}; a request may have {MOST_REFERENCES}", found.len());
            return Err(Problem::invalid(format!("/input/{place}"), detail));
        }
    }
    Ok(found)
}

fn missing(place: usize, id: &str) -> Problem {
    let shown: String = id.chars().take(100).collect();
    let problem = Problem::invalid(format!("/input/{place}/id"), format!("there is no stored item {shown:?}"));
    problem.with_hint("only responses with \"store\": true are stored; send the item itself, or previous_response_id")
}

/// Whether a stored text has an item with one of these ids. What is within a string
/// has its quotes escaped, so it is never taken for one.
fn names(text: &str, wanted: &HashSet<String>) -> bool {
    const FIELD: &str = "\"id\":\"";
    let ids = text.match_indices(FIELD).filter_map(|(place, _)| text[place + FIELD.len()..].split('"').next());
    ids.into_iter().any(|id| wanted.contains(id))
}

fn take(
    stored: Vec<(ResponseId, String, String)>,
    wanted: &HashSet<String>,
    found: &mut HashMap<String, Value>,
) -> Result<(), Problem> {
    for (id, input, object) in stored {
        for item in items(id, &input)? {
            take_item(item, wanted, found);
        }
        let mut object: Value = serde_json::from_str(&object).map_err(Problem::internal)?;
        if let Value::Array(output) = object["output"].take() {
            for item in output {
                take_item(item, wanted, found);
            }
        }
    }
    Ok(())
}

fn take_item(item: Value, wanted: &HashSet<String>, found: &mut HashMap<String, Value>) {
    if let Some(id) = item["id"].as_str().filter(|id| wanted.contains(*id)) {
        found.entry(id.to_owned()).or_insert(item);
    }
}

/// The items of a response's input, each with an id: its own, or one by its place.
pub(super) fn items(id: ResponseId, input: &str) -> Result<Vec<Value>, Problem> {
    let mut items: Vec<Value> = serde_json::from_str(input).map_err(Problem::internal)?;
    for (place, item) in items.iter_mut().enumerate() {
        if !item["id"].is_string() {
            item["id"] = id.part("in", place).into();
        }
        if item.get("type").is_none() {
            item["type"] = "message".into();
        }
        if item["type"] == "message" && item["content"].is_string() {
            let kind = if item["role"] == "assistant" { "output_text" } else { "input_text" };
            item["content"] = serde_json::json!([{ "type": kind, "text": item["content"] }]);
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reference_may_leave_its_type_out() {
        let input = [
            json!({ "role": "user", "content": "a" }),
            json!({ "type": "item_reference", "id": "a" }),
            json!({ "id": "b" }),
            json!({ "type": null, "id": "c" }),
            json!({ "id": "d", "role": "user", "content": "a" }),
        ];
        let wanted = [(1, "a".into()), (2, "b".into()), (3, "c".into())];
        assert_eq!(references(&input).expect("references"), wanted);
        for (wrong, place) in [
            (json!({ "type": "item_reference" }), "/input/0/id"),
            (json!({ "type": "item_reference", "id": "" }), "/input/0/id"),
            (json!({ "type": "item_reference", "id": "a", "content": "b" }), "/input/0/content"),
        ] {
            assert_eq!(references(&[wrong]).expect_err("wrong").errors()[0].pointer, place);
        }
        let many = vec![json!({ "id": "a" }); MOST_REFERENCES + 1];
        assert_eq!(references(&many).expect_err("too many").errors()[0].pointer, format!("/input/{MOST_REFERENCES}"));
    }

    #[test]
    fn ids_are_found_in_texts_and_not_in_strings() {
        let wanted = HashSet::from(["msg_1".to_owned()]);
        assert!(names(&json!([{ "id": "x" }, { "a": { "id": "msg_1" } }]).to_string(), &wanted));
        let text = json!([{ "id": "x", "text": json!({ "id": "msg_1" }).to_string() }, { "call_id": "msg_1" }]);
        assert!(!names(&text.to_string(), &wanted));
    }
}
