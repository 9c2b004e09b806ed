//! The tools that a model may call.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::picked;
use super::wrong::{Checked, Wrong, given, never, only, only_there, text};
use crate::http::Problem;

const FUNCTION: &[&str] = &["type", "name", "description", "parameters", "strict", "async", "defer_loading"];
const CUSTOM: &[&str] = &["type", "name", "description", "format", "async", "defer_loading"];
/// Needs a provider that searches or calls tools itself.
const NEVER: &[&str] = &["async", "defer_loading"];

/// The tools as chat completions have them.
#[derive(Debug, Default)]
pub(super) struct Tools {
    pub sent: Vec<Value>,
    /// The names of custom tools, which are sent as functions with one text.
    pub custom: BTreeSet<String>,
}

impl Tools {
    /// Reads `tools`.
    pub fn read(from: Option<&Value>) -> Result<Self, Problem> {
        let mut tools = Self::default();
        let Some(from) = from else { return Ok(tools) };
        let list = from.as_array().ok_or_else(|| Problem::invalid("/tools", "must be a list"))?;
        for (place, tool) in list.iter().enumerate() {
            tools.add(tool).map_err(|wrong| wrong.problem(&format!("/tools/{place}")))?;
        }
        Ok(tools)
    }

    fn add(&mut self, tool: &Value) -> Checked<()> {
        let (function, is_custom) = match tool["type"].as_str() {
            Some("function") => {
                only(tool, FUNCTION, "a function")?;
                (picked(tool, &["name", "description", "parameters", "strict"]), false)
            }
            Some("custom") => {
                only(tool, CUSTOM, "a custom tool")?;
                (custom(tool)?, true)
            }
            Some(kind) => return Err(Wrong::only_there("/type", format!("the tool {kind:?}"))),
            None => return Err(Wrong::new("/type", "must be the kind of tool, such as \"function\"")),
        };
        never(tool, NEVER, "a tool")?;
        let name = text(tool, "name")?;
        // A call names the tool and not its type.
        if (is_custom && self.has(name)) || self.custom.contains(name) {
            return Err(Wrong::new("/name", "is already the name of another tool"));
        }
        if is_custom {
            self.custom.insert(name.to_owned());
        }
        self.sent.push(json!({ "type": "function", "function": function }));
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.sent.iter().any(|tool| tool["function"]["name"] == name)
    }

    /// Translates `tool_choice`; tools that are not allowed are removed from the list.
    pub fn choose(&mut self, choice: &Value) -> Result<Value, Problem> {
        let chosen = match (choice.as_str(), choice["type"].as_str()) {
            (Some("auto" | "none" | "required"), _) => choice.clone(),
            (Some(_), _) => return Err(Problem::invalid("/tool_choice", "must be auto, none or required")),
            (None, Some("function" | "custom")) => {
                only(choice, &["type", "name"], "tool_choice").map_err(|wrong| wrong.problem("/tool_choice"))?;
                let name = text(choice, "name").map_err(|wrong| wrong.problem("/tool_choice"))?;
                json!({ "type": "function", "function": { "name": name } })
            }
            (None, Some("allowed_tools")) => self.allow(choice).map_err(|wrong| wrong.problem("/tool_choice"))?,
            (None, Some(kind)) => return Err(only_there("/tool_choice/type", &format!("the tool {kind:?}"))),
            (None, None) => {
                return Err(Problem::invalid("/tool_choice", "must be a text, or an object with a type"));
            }
        };
        if self.sent.is_empty() && chosen != "auto" && chosen != "none" {
            return Err(Problem::invalid("/tool_choice", "requires a tool, but there is none in /tools"));
        }
        Ok(chosen)
    }

    fn allow(&mut self, choice: &Value) -> Checked<Value> {
        only(choice, &["type", "mode", "tools"], "tool_choice")?;
        let list = choice["tools"].as_array().ok_or_else(|| Wrong::new("/tools", "must be a list"))?;
        let mut names = BTreeSet::new();
        for (place, tool) in list.iter().enumerate() {
            let within = |wrong: Wrong| wrong.within(&format!("/tools/{place}"));
            match tool["type"].as_str() {
                Some("function" | "custom") => {}
                Some(kind) => return Err(within(Wrong::only_there("/type", format!("the tool {kind:?}")))),
                None => return Err(within(Wrong::new("/type", "must be the kind of tool, such as \"function\""))),
            }
            only(tool, &["type", "name"], "an allowed tool").map_err(within)?;
            let name = text(tool, "name").map_err(within)?;
            if !self.has(name) {
                return Err(within(Wrong::new("/name", "is not the name of a tool in /tools")));
            }
            names.insert(name);
        }
        self.sent.retain(|tool| tool["function"]["name"].as_str().is_some_and(|name| names.contains(name)));
        match given(choice, "mode") {
            None => Ok("auto".into()),
            Some(mode) if mode == "auto" || mode == "required" => Ok(mode.clone()),
            Some(_) => Err(Wrong::new("/mode", "must be auto or required")),
        }
    }
}

/// A custom tool as a function with one text.
fn custom(tool: &Value) -> Checked<Map<String, Value>> {
    let mut about = match given(tool, "description") {
        None => String::new(),
        Some(about) => about.as_str().map(str::to_owned).ok_or_else(|| Wrong::new("/description", "must be a text"))?,
    };
    if let Some(form) = given(tool, "format") {
        let rule = format(form).map_err(|wrong| wrong.within("/format"))?;
        if !about.is_empty() && !rule.is_empty() {
            about.push_str("\n\n");
        }
        about.push_str(&rule);
    }
    let input = json!({ "type": "string", "description": "The whole input of the tool, as plain text." });
    let parameters = json!({
        "type": "object", "properties": { "input": input }, "required": ["input"], "additionalProperties": false,
    });
    let mut function = picked(tool, &["name"]);
    if !about.is_empty() {
        function.insert("description".into(), about.into());
    }
    function.insert("parameters".into(), parameters);
    Ok(function)
}

/// The format in words, since chat completions cannot enforce it.
fn format(form: &Value) -> Checked<String> {
    match form["type"].as_str() {
        Some("text") => only(form, &["type"], "the format of a custom tool").map(|()| String::new()),
        Some("grammar") => {
            only(form, &["type", "syntax", "definition"], "the format of a custom tool")?;
            let (syntax, definition) = (text(form, "syntax")?, text(form, "definition")?);
            Ok(format!("The input must match this {syntax} grammar:\n{definition}"))
        }
        Some(kind) => Err(Wrong::only_there("/type", format!("the format {kind:?}"))),
        None => Err(Wrong::new("/type", "must be text or grammar")),
    }
}
