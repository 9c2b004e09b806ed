//! `/v1/responses` over scripted providers: one that has chat completions only,
//! and one that has the interface itself.

mod agents;
mod background;
mod made;
mod references;
mod stored;

use serde_json::{Value, json};

use crate::support::upstream::{Script, Upstream};
use crate::support::{Client, Server, Setup, Stream};

/// A model whose price is known.
const MODEL: &str = "gpt-4o-mini";

/// A service with both providers behind it, which are one and the same program.
pub struct Bench {
    pub server: Server,
    pub upstream: Upstream,
    pub client: Client,
    pub tenant: String,
}

impl Bench {
    pub fn start() -> Self {
        Self::start_with(Setup::real())
    }

    pub fn start_with(setup: Setup) -> Self {
        let upstream = Upstream::start();
        let server = setup
            .env("OPENAI_API_KEY", "sk-of-the-provider")
            .env("OPENAI_BASE_URL", &upstream.base_url())
            .env("OPENAI_DEFAULT_MODEL", MODEL)
            .start();
        let own = json!({ "base_url": upstream.base_url(), "responses": true });
        server.admin().put("/admin/models/providers/own", &own).expect(200);
        let tenant = server.tenant("a tenant");
        let client = server.anyone().with_key(&server.key(&tenant));
        upstream.usually(Script::reply("Hello there.").used(10, 5));
        Self { server, upstream, client, tenant }
    }

    #[track_caller]
    pub fn create(&self, body: &Value) -> Value {
        self.client.post("/v1/responses", body).expect(200)
    }

    /// The events of a stream that a request opens, as they come.
    #[track_caller]
    pub fn open(&self, method: &str, path: &str, body: &Value) -> Events {
        Events { stream: self.client.open(method, path, body), next: None }
    }

    #[track_caller]
    pub fn get(&self, id: &str) -> Value {
        self.client.get(&format!("/v1/responses/{id}")).expect(200)
    }

    /// The events of a stored response after this one.
    #[track_caller]
    pub fn follow(&self, id: &str, after: Option<i64>) -> Events {
        let after = after.map(|after| format!("&starting_after={after}")).unwrap_or_default();
        self.open("GET", &format!("/v1/responses/{id}?stream=true{after}"), &json!({}))
    }
}

/// Events of a response, which must be numbered without a gap.
pub struct Events {
    stream: Stream,
    next: Option<i64>,
}

impl Iterator for Events {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        loop {
            let frame = self.stream.frame()?;
            if frame.event.is_empty() {
                continue;
            }
            let data = frame.json();
            assert_eq!(data["type"], frame.event);
            let number = data["sequence_number"].as_i64().expect("a number");
            assert!(self.next.is_none_or(|next| next == number), "{number} is not next: {data}");
            self.next = Some(number + 1);
            return Some(data);
        }
    }
}

/// A question to the provider that has chat completions only.
pub fn question() -> Value {
    json!({ "model": "default", "input": "Say hello." })
}

/// The same to the one that has the interface.
pub fn own_question() -> Value {
    json!({ "model": format!("own/{MODEL}"), "input": "Say hello." })
}

pub fn with(mut body: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else { panic!("an object") };
    body.as_object_mut().expect("an object").extend(fields);
    body
}

/// What a response says.
pub fn text(response: &Value) -> String {
    let items = response["output"].as_array().into_iter().flatten();
    items.filter_map(|item| item["content"][0]["text"].as_str()).collect()
}

#[track_caller]
pub fn id(response: &Value) -> String {
    response["id"].as_str().expect("an id").to_owned()
}
