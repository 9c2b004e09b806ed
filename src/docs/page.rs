//! The document as a page that needs no script and loads nothing from elsewhere.

use std::fmt::Write as _;

use serde_json::Value;

use super::html::{Text, markdown};
use super::schema::{about, fields, kind};
use crate::http::openapi::CODES;

/// In the order in which people read them.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

struct Operation<'a> {
    path: &'a str,
    method: &'a str,
    is: &'a Value,
}

impl Operation<'_> {
    fn id(&self) -> Text<'_> {
        Text(self.is["operationId"].as_str().unwrap_or_default())
    }

    fn name(&self) -> String {
        let method = self.method.to_uppercase();
        format!("<b class=\"{}\">{method}</b> <code>{}</code>", self.method, Text(self.path))
    }
}

/// The document as a page.
pub(super) fn render(document: &Value) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>agentd API</title><link rel=\"stylesheet\" href=\"/docs/style.css\">\
         <link rel=\"icon\" href=\"data:,\"><script src=\"/docs/script.js\" defer></script></head><body>\
         <nav aria-label=\"Contents\"><p class=\"home\"><a href=\"#top\">agentd {}</a></p>\
         <input id=\"filter\" type=\"search\" placeholder=\"Filter routes\" aria-label=\"Filter routes\" hidden>",
        Text(text(&document["info"]["version"])),
    );
    let tags: Vec<_> = document["tags"].as_array().into_iter().flatten().collect();
    for tag in &tags {
        let name = text(&tag["name"]);
        let _ = write!(page, "<section><h2><a href=\"#{}\">{}</a></h2><ul>", anchor(name), Text(name));
        for operation in operations(document, name) {
            let _ = write!(page, "<li><a href=\"#{}\">{}</a>", operation.id(), operation.name());
        }
        page.push_str("</ul></section>");
    }
    page.push_str("<section><h2><a href=\"#problems\">Problems</a></h2></section>");
    page.push_str("<section><h2><a href=\"#schemas\">Schemas</a></h2></section></nav><main id=\"top\">");
    introduction(&mut page, document);
    for tag in &tags {
        let name = text(&tag["name"]);
        let _ = write!(page, "<h2 id=\"{}\">{}</h2>{}", anchor(name), Text(name), markdown(text(&tag["description"])));
        for operation in operations(document, name) {
            operation_section(&mut page, document, &operation);
        }
    }
    problems(&mut page);
    schemas(&mut page, document);
    page.push_str("</main></body></html>\n");
    page
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn anchor(tag: &str) -> String {
    tag.to_lowercase().replace(' ', "-")
}

fn operations<'a>(document: &'a Value, tag: &'a str) -> impl Iterator<Item = Operation<'a>> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let all = paths.flat_map(|(path, item)| METHODS.iter().map(move |method| (path, *method, &item[*method])));
    all.filter(move |(_, _, is)| is["tags"][0] == tag).map(|(path, method, is)| Operation { path, method, is })
}

fn introduction(page: &mut String, document: &Value) {
    let info = &document["info"];
    let _ = write!(
        page,
        "<h1>agentd API</h1><p class=\"lead\">{}. The same for programs: <a href=\"/openapi.json\">OpenAPI 3.1</a>.</p>{}",
        Text(text(&info["summary"])),
        markdown(text(&info["description"])),
    );
    page.push_str("<h2 id=\"credentials\">Credentials</h2><div class=\"wide\"><table><tbody>");
    for scheme in document["components"]["securitySchemes"].as_object().into_iter().flatten().map(|(_, scheme)| scheme)
    {
        let place = match scheme["name"].as_str() {
            Some(header) => format!("{header}: …"),
            None => "Authorization: Bearer …".to_owned(),
        };
        let _ =
            write!(page, "<tr><td><code>{}</code><td>{}</tr>", Text(&place), markdown(text(&scheme["description"])));
    }
    page.push_str(
        "</tbody></table></div><p>The examples assume</p>\
         <pre><code>BASE=<span id=\"base\">http://127.0.0.1:8000</span>\nAPI_KEY=…\nADMIN_KEY=…</code></pre>",
    );
}

fn operation_section(page: &mut String, document: &Value, operation: &Operation<'_>) {
    let is = operation.is;
    let _ = write!(
        page,
        "<section class=\"operation\" id=\"{0}\"><h3><a href=\"#{0}\">{1}</a></h3><div class=\"lead\">{2}</div>{3}",
        operation.id(),
        operation.name(),
        markdown(text(&is["summary"])),
        markdown(text(&is["description"])),
    );
    let parameters: Vec<_> = is["parameters"].as_array().into_iter().flatten().collect();
    if !parameters.is_empty() {
        page.push_str("<h4>Parameters</h4><div class=\"wide\"><table><tbody>");
        for parameter in parameters {
            let (name, schema) = (text(&parameter["name"]), &parameter["schema"]);
            let about = format!("{}{}", markdown(text(&parameter["description"])), about(schema));
            let place = text(&parameter["in"]);
            let _ = write!(
                page,
                "<tr><td><code>{}</code> <small>{place}</small><td>{}<td>{about}</tr>",
                Text(name),
                kind(schema),
            );
        }
        page.push_str("</tbody></table></div>");
    }
    let content = &is["requestBody"]["content"]["application/json"];
    if content.is_object() {
        let _ = write!(page, "<h4>Body</h4><p>{}</p>", kind(&content["schema"]));
        page.push_str(&fields(resolved(document, &content["schema"])));
    }
    page.push_str("<h4>Example</h4>");
    let examples = content["examples"].as_object().into_iter().flatten().map(|(_, example)| Some(&example["value"]));
    let mut examples: Vec<_> = examples.collect();
    if examples.is_empty() {
        examples.push(None);
    }
    for body in examples {
        let _ = write!(page, "<pre><code>{}</code></pre>", Text(&curl(operation, body)));
    }
    page.push_str("<h4>Answers</h4><div class=\"wide\"><table><tbody>");
    for (status, answer) in is["responses"].as_object().into_iter().flatten() {
        answer_row(page, status, resolved(document, answer));
    }
    page.push_str("</tbody></table></div></section>");
}

fn answer_row(page: &mut String, status: &str, answer: &Value) {
    let contents = answer["content"].as_object().into_iter().flatten();
    let bodies = contents.map(|(media, content)| match media.as_str() {
        "application/json" => kind(&content["schema"]),
        "application/problem+json" => "<a href=\"#schema-Problem\">Problem</a>".to_owned(),
        other => format!("<code>{}</code>", Text(other)),
    });
    let bodies = bodies.collect::<Vec<_>>().join(" or ");
    let common = ["X-Request-Id", "WWW-Authenticate"];
    let names = answer["headers"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let names: Vec<_> =
        names.filter(|name| !common.contains(name)).map(|name| format!("<code>{name}</code>")).collect();
    let headers = if names.is_empty() { String::new() } else { format!("<p class=\"bounds\">{}</p>", names.join(" ")) };
    let class = status.chars().next().unwrap_or('0');
    let description = markdown(text(&answer["description"]));
    let _ = write!(page, "<tr class=\"s{class}\"><td><b>{status}</b><td>{bodies}<td>{description}{headers}</tr>");
}

/// What a reference leads to.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| document.pointer(pointer)).unwrap_or(value)
}

fn curl(operation: &Operation<'_>, body: Option<&Value>) -> String {
    let mut line = String::from("curl -s");
    if operation.method != "get" && (body.is_none() || operation.method != "post") {
        let _ = write!(line, " -X {}", operation.method.to_uppercase());
    }
    // Path parameters become variables of the shell.
    let path = operation.path.replace('{', "$").replace('}', "");
    let path: Vec<_> =
        path.split('/').map(|part| if part.starts_with('$') { part.to_uppercase() } else { part.to_owned() }).collect();
    let _ = write!(line, " \"$BASE{}\"", path.join("/"));
    let first = operation.is["security"][0].as_object().and_then(|schemes| schemes.keys().next());
    match first.map(String::as_str) {
        Some("apiKey") => line.push_str(" -H \"X-API-Key: $API_KEY\""),
        Some("adminKey") => line.push_str(" -H \"X-Admin-Key: $ADMIN_KEY\""),
        _ => {}
    }
    if let Some(body) = body {
        let body = body.to_string().replace('\'', "'\\''");
        let _ = write!(line, " \\\n  -H 'Content-Type: application/json' -d '{body}'");
    }
    line
}

fn problems(page: &mut String) {
    page.push_str(
        "<h2 id=\"problems\">Problems</h2><p>Every error is a <a href=\"#schema-Problem\">Problem</a> with one of these codes.</p>\
         <div class=\"wide\"><table><tbody>",
    );
    for code in CODES {
        let (status, meaning) = (code.status, markdown(code.meaning));
        let _ = write!(page, "<tr><td><b>{status}</b><td><code>{}</code><td>{meaning}</tr>", code.code);
    }
    page.push_str("</tbody></table></div>");
}

fn schemas(page: &mut String, document: &Value) {
    page.push_str("<h2 id=\"schemas\">Schemas</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let _ = write!(page, "<section id=\"schema-{0}\"><h3><a href=\"#schema-{0}\">{0}</a></h3>", Text(name));
        let table = fields(schema);
        if table.is_empty() {
            let _ = write!(page, "<p>{}</p>{}", kind(schema), about(schema));
        } else {
            page.push_str(&markdown(text(&schema["description"])));
            page.push_str(&table);
        }
        page.push_str("</section>");
    }
}
