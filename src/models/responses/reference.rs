//! Resolves `item_reference`: items of the tenant's stored responses, input or output,
//! that a client names by id instead of sending them.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::Inner;
use super::create::Asked;
use super::id::ResponseId;
use super::request::without_id;
use super::sql;
use super::translate::MEMBER;
use crate::http::Problem;

/// References that one request may have.
const MOST_REFERENCES: usize = 1_000;
/// Bytes of stored responses that are searched for them.
const MOST_BYTES: usize = 16 << 20;
/// The ids of a provider with the Responses interface do not contain the response's id.
/// They are searched in this many of the tenant's newest responses.
const NEWEST: usize = 500;

impl Inner {
    /// Replaces each reference by the stored item.
    ///
    /// # Errors
    /// If there is no such item.
    pub(super) async fn resolve(&self, asked: &mut Asked) -> Result<(), Problem> {
        let wanted = references(&asked.create.input)?;
        if wanted.is_empty() {
            return Ok(());
        }
        let mut found = self.find(asked, wanted.iter().map(|(_, id)| id.clone()).collect()).await?;
        // Providers store nothing, so an id means nothing to them.
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

    /// The stored items with these ids.
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

/// Responses that are read for items whose client dropped unknown members.
const MOST_RESTORED: usize = 64;

impl Inner {
    /// The input with the members that typed clients drop from items: those of the stored
    /// item with the same id. `None` if nothing has to be restored.
    pub(super) async fn restored(&self, tenant: i64, input: &[Value]) -> Result<Option<Vec<Value>>, Problem> {
        let mut responses: Vec<_> = stripped(input).map(|(_, response)| response).collect();
        responses.dedup();
        responses.truncate(MOST_RESTORED);
        if responses.is_empty() {
            return Ok(None);
        }
        let mut found = HashMap::new();
        let wanted = stripped(input).filter_map(|(place, _)| input[place]["id"].as_str().map(str::to_owned)).collect();
        take(self.db.read(move |tx| sql::stored(tx, tenant, &responses, MOST_BYTES)).await?, &wanted, &mut found)?;
        let mut restored = input.to_vec();
        for (place, _) in stripped(input) {
            let item = &mut restored[place];
            let stored = item["id"].as_str().and_then(|id| found.get(id));
            let Some(stored) = stored.filter(|stored| is_same(stored, item)) else { continue };
            if item["type"] == "reasoning" {
                *item = stored.clone();
            } else if let Some(theirs) = stored.get(MEMBER) {
                item[MEMBER] = theirs.clone();
            }
        }
        Ok(Some(restored))
    }
}

/// Items of stored responses that may lack members, from the last one on: reasoning, which
/// never lacks them otherwise, and answers to the last message of the user.
fn stripped(input: &[Value]) -> impl Iterator<Item = (usize, ResponseId)> {
    let last = input.iter().rposition(|item| item["role"] == "user");
    let of_turn = move |place: usize| last.is_none_or(|last| place > last);
    input.iter().enumerate().rev().filter_map(move |(place, item)| {
        let is_wanted = match item["type"].as_str() {
            Some("reasoning") => !item["encrypted_content"].is_string(),
            Some("function_call" | "custom_tool_call" | "message") => of_turn(place),
            _ => false,
        };
        let response = ResponseId::of_part(item["id"].as_str()?)?;
        (is_wanted && item.get(MEMBER).is_none_or(Value::is_null)).then_some((place, response))
    })
}

fn is_same(stored: &Value, item: &Value) -> bool {
    ["type", "call_id", "name"].iter().all(|name| stored[*name] == item[*name])
}

/// The references: their positions and ids.
fn references(input: &[Value]) -> Result<Vec<(usize, String)>, Problem> {
    let mut found = Vec::new();
    for (place, item) in input.iter().enumerate() {
        // The type is optional; without it, a reference has nothing but an id.
        let is_bare = item["type"].is_null() && item["role"].is_null() && item["id"].is_string();
        if item["type"] != "item_reference" && !is_bare {
            continue;
        }
        let fields = item.as_object().into_iter().flatten();
        let odd = fields.filter(|(_, value)| !value.is_null()).find(|(name, _)| *name != "type" && *name != "id");
        if let Some((name, _)) = odd {
            return Err(Problem::invalid(format!("/input/{place}/{name}"), "is not allowed in an item_reference"));
        }
        let id = item["id"].as_str().filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| Problem::invalid(format!("/input/{place}/id"), "must be the id of an item"))?;
        found.push((place, id.to_owned()));
        if found.len() > MOST_REFERENCES {
            let detail = format!("exceeds the limit of {MOST_REFERENCES} references in a request");
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

/// Whether a stored text has an item with one of these ids. Quotes within strings are
/// escaped, so they cannot match.
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

/// The items of a response's input, each with an id: its own, or one from its position.
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
    fn items_may_lack_members() {
        let id = ResponseId(uuid::Uuid::from_u128(1));
        let item = |kind: &str, prefix: &str| json!({ "type": kind, "id": id.part(prefix, 0) });
        let mut whole = item("function_call", "fc");
        whole[MEMBER] = "x".into();
        let mut sealed = item("reasoning", "rs");
        sealed["encrypted_content"] = "x".into();
        let input = [
            item("reasoning", "rs"),
            item("function_call", "fc"),
            json!({ "type": "message", "role": "user", "content": "a" }),
            item("function_call", "fc"),
            item("function_call_output", "fco"),
            whole,
            sealed,
            json!({ "type": "function_call", "id": "fc_1" }),
            json!({ "type": "custom_tool_call", "id": id.part("ctc", 1) }),
        ];
        assert_eq!(stripped(&input).collect::<Vec<_>>(), [(8, id), (3, id), (0, id)]);
    }

    #[test]
    fn ids_are_found_in_texts_and_not_in_strings() {
        let wanted = HashSet::from(["msg_1".to_owned()]);
        assert!(names(&json!([{ "id": "x" }, { "a": { "id": "msg_1" } }]).to_string(), &wanted));
        let text = json!([{ "id": "x", "text": json!({ "id": "msg_1" }).to_string() }, { "call_id": "msg_1" }]);
        assert!(!names(&text.to_string(), &wanted));
    }
}
