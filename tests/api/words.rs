//! What is wrong with a body is told in the words of JSON, on every route.

use serde_json::{Map, Value, json};

use crate::support::{Client, Setup};

/// Words of the program's language and of its reader, which no client knows.
const FOREIGN: [&str; 25] = [
    "invalid type",
    "invalid value",
    "invalid length",
    "missing field",
    "variant",
    "struct",
    "tuple",
    "a sequence",
    "a map",
    "unit",
    "expected one of",
    "untagged",
    "newtype",
    "i8",
    "i16",
    "i32",
    "i64",
    "u8",
    "u16",
    "u32",
    "u64",
    "usize",
    "f32",
    "f64",
    "floating point",
];

/// A text has this word, not only a part of another one.
fn has(text: &str, word: &str) -> bool {
    let ends = |rest: Option<char>| rest.is_none_or(|c| !c.is_ascii_alphanumeric());
    text.match_indices(word)
        .any(|(at, _)| ends(text[..at].chars().next_back()) && ends(text[at + word.len()..].chars().next()))
}

/// Values of every kind; whatever a member is to be, most of them are wrong.
fn values() -> [Value; 16] {
    [
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("no such thing"),
        json!([]),
        json!([null]),
        json!([-1.5]),
        json!(["x"]),
        json!([{ "x": 1 }]),
        json!([[]]),
        json!({}),
        json!({ "x": { "y": [] } }),
    ]
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null),
        None => schema["anyOf"].as_array().map_or(schema, |all| resolved(document, &all[0])),
    }
}

/// Bodies with one member that is of every kind, also inside of members that are objects or lists of them.
fn bodies(document: &Value, schema: &Value, deep: usize) -> Vec<Value> {
    let schema = resolved(document, schema);
    let mut all = Vec::new();
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let with = |value: Value| Value::Object(Map::from_iter([(name.clone(), value)]));
        all.extend(values().map(with));
        if deep > 0 {
            all.extend(bodies(document, member, deep - 1).into_iter().map(with));
            let items = bodies(document, &resolved(document, member)["items"], deep - 1);
            all.extend(items.into_iter().map(|item| with(json!([item]))));
        }
    }
    all
}

/// Sends bodies that are wrong to a route; how many were refused.
fn sweep(client: &Client, method: &str, path: &str, bodies: &[String]) -> usize {
    let mut refused = 0;
    for body in bodies {
        let answer = client.send(method, path, &[("Content-Type", "application/json")], Some(body.as_bytes()));
        if answer.status < 400 {
            continue;
        }
        refused += 1;
        let found: Vec<_> = FOREIGN.iter().filter(|word| has(&answer.text, word)).collect();
        assert!(found.is_empty(), "{method} {path} {body}: {found:?} in {}", answer.text);
    }
    refused
}

#[test]
fn no_route_speaks_of_the_programs_types() {
    let mut server = Setup::real().start();
    // Some of the bodies are fine, and jobs of them go on.
    server.unchecked();
    let tenant = server.tenant("a tenant");
    // Its calls of models reach nobody.
    let key = server.key_with(&tenant, &json!({ "name": "words", "test": true }));
    let (client, admin) = (server.anyone().with_key(&key), server.admin());
    let document = agentd::app::routes().document();
    let mut refused = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("an item") {
            let Some(schema) = operation["requestBody"]["content"]["application/json"].get("schema") else { continue };
            let by_admin = operation["security"][0]["adminKey"].is_array();
            let path = path.replace("{id}", &tenant).replace("{key_id}", &key.id);
            let path =
                path.split('{').next().map(|start| if start == path { start.into() } else { format!("{start}x") });
            let mut bodies: Vec<_> = bodies(&document, schema, 2).iter().map(Value::to_string).collect();
            bodies.extend(values().iter().map(Value::to_string));
            bodies.extend(["{\"a\":1,\"a\":2}", "{\"nonsense\":1}", "{", "nul", "{\"a\":1e999}"].map(str::to_owned));
            let client = if by_admin { &admin } else { &client };
            refused += sweep(client, &method.to_uppercase(), &path.expect("a path"), &bodies);
        }
    }
    assert!(refused > 1_000, "only {refused} bodies were refused");
}

#[test]
fn a_wrong_member_is_told_what_it_must_be() {
    let (_server, client) = crate::real();
    let told = |member: &str, value: Value| {
        let mut body = json!({ "tool": "echo" });
        body[member] = value;
        let answer = client.post("/v1/jobs", &body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        let answer = answer.problem(400, "invalid_request");
        answer["errors"][0]["detail"].as_str().expect("a detail").to_owned()
    };
    for (member, value, expected) in [
        ("tool", json!(5), "must be a string"),
        ("priority", json!(1000), "must be a whole number from -128 to 127"),
        ("priority", json!("high"), "must be a whole number from -128 to 127"),
        ("max_attempts", json!("x"), "must be a whole number from 1 to 100"),
        ("max_attempts", json!(0), "must be a whole number from 1 to 100"),
        ("max_attempts", json!(-1), "must be a whole number from 1 to 100"),
        ("delay", json!("1s"), "must be a number from 0 to 2592000"),
        ("metadata", json!(["a"]), "must be an object"),
        ("metadata", json!({ "a": 1 }), "must be a string"),
        ("backoff", json!("1s"), "must be an object"),
        ("on_conflict", json!(5), "must be one of enqueue, reject, replace"),
        ("on_conflict", json!("x"), "must be one of enqueue, reject, replace"),
        ("tools", json!("x"), "must be a list"),
        ("run_at", json!(5), "must be a time in RFC 3339 from 1970 on, such as 2030-01-31T09:30:00Z"),
        ("run_at", json!("tomorrow"), "must be a time in RFC 3339 from 1970 on, such as 2030-01-31T09:30:00Z"),
        ("budget_usd", json!(0.5), "must be US dollars as a string such as \"0.75\""),
    ] {
        assert_eq!(told(member, value.clone()), expected, "{member}: {value}");
    }
    let tenants = crate::support::Server::real();
    let missing = tenants.admin().post("/admin/tenants", &json!({}));
    assert_eq!(missing.fault("invalid_request", "/name")["errors"][0]["detail"], "is missing");
    let limit = client.get("/v1/jobs?limit=many").fault("invalid_request", "?limit");
    assert_eq!(limit["errors"][0]["detail"], "must be a whole number from 1 to 200");
}
