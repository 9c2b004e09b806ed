//! The document of the interface: complete, valid, and true. Every other test
//! helps: the client of the tests holds each answer against it.

use std::collections::{BTreeMap, BTreeSet};

use agentd::http::Policy;
use agentd::http::openapi::CODES;
use insta::{Settings, assert_snapshot};
use serde_json::{Value, json};

use crate::support::{Client, Server, cli};

fn document() -> Value {
    agentd::app::routes().document()
}

/// Path, method, operation.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("an item") {
            all.push((path.clone(), method.to_uppercase(), operation.clone()));
        }
    }
    all
}

/// A change of the document is a change of the interface and has to be seen.
#[test]
fn the_whole_document() {
    let mut document = document();
    document["info"]["version"] = "[version]".into();
    let mut settings = Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| assert_snapshot!("openapi", serde_json::to_string_pretty(&document).expect("JSON")));
}

#[test]
fn no_route_is_missing() {
    let document = document();
    let mut faults = Vec::new();
    for route in agentd::app::routes().list() {
        if route.method == "HEAD" {
            continue;
        }
        let name = format!("{} {}", route.method, route.path);
        let operation = &document["paths"][route.path][route.method.to_lowercase()];
        if operation.is_null() {
            faults.push(format!("{name}: not described; add it with Routes::with"));
            continue;
        }
        for (what, member) in [("name", "operationId"), ("summary", "summary")] {
            if operation[member].as_str().is_none_or(str::is_empty) {
                faults.push(format!("{name}: no {what}"));
            }
        }
        if operation["tags"][0].as_str().is_none_or(str::is_empty) {
            faults.push(format!("{name}: no heading; begin with Routes::of"));
        }
        let responses = operation["responses"].as_object().expect("responses");
        let mut good = responses.iter().filter(|(status, _)| status.starts_with('2')).peekable();
        if good.peek().is_none() {
            faults.push(format!("{name}: no answer of success"));
        }
        for (status, answer) in good {
            if *status != "204" && answer["content"].as_object().is_none_or(serde_json::Map::is_empty) {
                faults.push(format!("{name}: nothing is said of the body of {status}"));
            }
        }
        let asks = operation["security"].as_array().is_some_and(|schemes| !schemes.is_empty());
        if asks == (route.policy == Policy::Open) {
            faults.push(format!("{name}: the security is not that of {:?}", route.policy));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn names_are_unique_and_of_one_kind() {
    let mut seen = BTreeSet::new();
    let document = document();
    for (path, method, operation) in operations(&document) {
        let id = operation["operationId"].as_str().expect("a name").to_owned();
        assert!(id.starts_with(|first: char| first.is_ascii_lowercase()), "{id}");
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
        assert!(seen.insert(id), "{method} {path} has the name of another operation");
    }
    for name in document["components"]["schemas"].as_object().expect("schemas").keys() {
        // schemars numbers types that share a name, by their order.
        assert!(!name.ends_with(|last: char| last.is_ascii_digit()), "{name}: two types have this name");
    }
}

/// A reference that leads nowhere makes the document useless to programs.
#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    found.push(reference.clone());
                }
                map.values().for_each(|value| walk(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| walk(value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut references = Vec::new();
    walk(&document, &mut references);
    assert!(references.len() > 100);
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("in this document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// A code that a route names must exist with that status.
#[test]
fn problems_have_known_codes() {
    let document = document();
    for (name, response) in document["components"]["responses"].as_object().expect("responses") {
        let contents = response["content"].as_object().expect("contents");
        let narrow = &contents.values().next().expect("a content")["schema"]["allOf"][1]["properties"];
        let (status, codes) = if name.starts_with("openai.") {
            let status = name.split('.').nth(1).and_then(|status| status.parse().ok());
            (status, &narrow["error"]["properties"]["code"])
        } else {
            (narrow["status"]["const"].as_u64(), &narrow["code"])
        };
        let status = status.expect("a status");
        for code in codes["enum"].as_array().expect("codes") {
            let known = CODES.iter().any(|known| u64::from(known.status) == status && known.code == *code);
            assert!(known, "{name}: {code} is not in the list of codes");
        }
    }
}

/// docs/api.md has the same codes, for people.
#[test]
fn every_code_is_in_the_manual() {
    let manual = include_str!("../../docs/api.md");
    let missing: Vec<_> = CODES.iter().filter(|known| !manual.contains(&format!("`{}`", known.code))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn schemas_with(document: &Value, schema: &Value) -> jsonschema::Validator {
    let mut whole = schema.clone();
    if let Some(whole) = whole.as_object_mut() {
        whole.insert("components".into(), document["components"].clone());
    }
    jsonschema::draft202012::new(&whole).unwrap_or_else(|error| panic!("{error} in {schema}"))
}

#[test]
fn schemas_are_valid_and_examples_fit_them() {
    let document = document();
    let mut examples = 0;
    let mut check = |place: &str, content: &Value| {
        // Nothing describes a stream.
        let Some(schema) = content.get("schema") else { return };
        let validator = schemas_with(&document, schema);
        let many = content["examples"].as_object().into_iter().flatten().map(|(_, example)| &example["value"]);
        for example in many.chain(content.get("example")) {
            examples += 1;
            let errors: Vec<_> = validator.iter_errors(example).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{place}: {example}: {errors:?}");
        }
    };
    for (path, method, operation) in operations(&document) {
        let bodies = operation["requestBody"]["content"].as_object().into_iter().flatten();
        let responses = operation["responses"].as_object().expect("responses").values();
        let answers = responses.filter_map(|response| response["content"].as_object()).flatten();
        for (media, content) in bodies.chain(answers) {
            check(&format!("{method} {path} {media}"), content);
        }
    }
    assert!(examples > 5, "only {examples} examples");
}

/// Where an operation's examples are sent to: its path with ids that exist.
fn filled(path: &str, ids: &BTreeMap<&str, String>) -> String {
    let mut path = path.to_owned();
    for (template, id) in ids {
        path = path.replacen(template, id, 1);
    }
    path
}

/// A file with a line that a batch can read; its id.
fn uploaded(client: &Client) -> String {
    let line = r#"{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"messages":[]}}"#;
    let form = format!(
        "--x\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
         --x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n\r\n{line}\n\r\n--x--\r\n"
    );
    let headers = [("Content-Type", "multipart/form-data; boundary=x")];
    let made = client.send("POST", "/v1/files", &headers, Some(form.as_bytes())).expect(200);
    made["id"].as_str().expect("an id").to_owned()
}

/// The examples of requests are sent, and work.
#[test]
fn examples_work() {
    let mut server = Server::real();
    // Jobs with a delay are still waiting at the end.
    server.unchecked();
    let tenant = server.tenant("a tenant");
    // Its calls of models reach nobody.
    let key = server.key_with(&tenant, &json!({ "name": "examples", "test": true }));
    let (client, admin) = (server.anyone().with_key(&key), server.admin());
    let local = json!({ "base_url": "http://127.0.0.1:11434/v1" });
    admin.put("/admin/models/providers/local", &local).expect(200);
    let file = uploaded(&client);
    let user = json!({ "name": "bob", "password": "correct horse battery", "role": "viewer" });
    admin.post("/admin/users", &user).expect(201);
    let ids = BTreeMap::from([
        ("{key_id}", key.id.clone()),
        ("{id}", tenant),
        ("{name}", "bob".into()),
        ("{alias}", "mine".into()),
        ("{model}", "a-model".into()),
    ]);
    let document = document();
    let mut sent = 0;
    let with_examples = operations(&document)
        .into_iter()
        .filter(|(_, _, operation)| operation["requestBody"]["content"]["application/json"]["examples"].is_object());
    // Those that change the tenant come last, so that they disturb nothing.
    let (admins, tenants): (Vec<_>, Vec<_>) =
        with_examples.partition(|(_, _, operation)| operation["security"][0]["adminKey"].is_array());
    for (path, method, operation) in tenants.into_iter().chain(admins) {
        let client = if operation["security"][0]["adminKey"].is_array() { &admin } else { &client };
        let examples = operation["requestBody"]["content"]["application/json"]["examples"].clone();
        for (name, example) in examples.as_object().expect("examples") {
            let body = example["value"].to_string().replace("file-01990000000070008000000000000000", &file);
            let headers = [("Content-Type", "application/json")];
            let answer = client.send(&method, &filled(&path, &ids), &headers, Some(body.as_bytes()));
            assert!((200..300).contains(&answer.status), "{method} {path}, {name}: {}", answer.text);
            sent += 1;
        }
    }
    assert!(sent > 5, "only {sent} examples");
}

/// Every route of the service's own refuses an unknown parameter and says which it
/// knows: these and no others are in the document. Those of OpenAI's interface
/// ignore it, see `openai_clients`.
#[test]
fn parameters_are_those_that_the_service_knows() {
    let server = Server::real();
    let tenant = server.tenant("a tenant");
    let key = server.key(&tenant);
    let (client, admin) = (server.anyone().with_key(&key), server.admin());
    let job = client.submit("echo", &Value::Null);
    client.finished(&job);
    let document = document();
    for (path, method, operation) in operations(&document) {
        let by_admin = operation["security"][0]["adminKey"].is_array();
        if operation["security"].as_array().is_none_or(|schemes| schemes.len() != 2) {
            // Open routes and the metrics are called by machines that add their own; that of
            // the setup has tests of its own.
            continue;
        }
        let client: &Client = if by_admin { &admin } else { &client };
        let id = if by_admin { &tenant } else { &job };
        let path = path.replacen("{id}", id, 1).replacen("{key_id}", &key.id, 1);
        let body = match operation["requestBody"]["content"]["application/json"]["examples"].as_object() {
            Some(examples) => examples.values().next().expect("an example")["value"].to_string(),
            None => String::new(),
        };
        let headers = [("Content-Type", "application/json")];
        let answer = client.send(&method, &format!("{path}?nonsense=1"), &headers, Some(body.as_bytes()));
        let errors = operation["responses"].as_object().expect("responses").values();
        if errors.filter_map(|it| it["$ref"].as_str()).any(|reference| reference.contains("/openai.")) {
            assert!(!answer.text.contains("nonsense"), "{method} {path}: {}", answer.text);
            continue;
        }
        let hint = answer.fault("invalid_request", "?nonsense")["hint"].as_str().expect("a hint").to_owned();
        let known: BTreeSet<&str> = match hint.split_once("known are ").map(|(_, names)| names) {
            Some(names) => names.split(';').next().unwrap_or_default().split(", ").collect(),
            None => BTreeSet::new(),
        };
        let parameters = operation["parameters"].as_array().expect("parameters").iter();
        let said = parameters.filter(|it| it["in"] == "query").map(|it| it["name"].as_str().expect("a name"));
        assert_eq!(said.collect::<BTreeSet<_>>(), known, "{method} {path}");
    }
}

#[test]
fn the_command_line_prints_it_without_a_service() {
    let said = cli::say(&mut cli::agentd(&["openapi"]), "");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(serde_json::from_str::<Value>(&said.out).expect("JSON"), document());
}

#[test]
fn it_is_served_and_kept_by_clients() {
    let server = Server::real();
    let anyone = server.anyone();
    let answer = anyone.get("/openapi.json");
    assert_eq!(answer.expect(200), document());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    for path in ["/openapi.json", "/docs", "/docs/style.css", "/docs/script.js"] {
        let first = anyone.get(path);
        let tag = first.header("etag").expect("a tag").to_owned();
        let again = anyone.send("GET", path, &[("If-None-Match", &format!("\"other\", {tag}"))], None);
        assert_eq!((again.status, again.text.as_str()), (304, ""), "{path}");
        assert_eq!(again.header("etag"), Some(tag.as_str()));
        let other = anyone.send("GET", path, &[("If-None-Match", "\"other\"")], None);
        assert_eq!((other.status, &other.text), (200, &first.text));
    }
}
