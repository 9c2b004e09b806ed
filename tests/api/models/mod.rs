//! Files, batches, speech and vectors, over a scripted provider.

mod audio;
mod batches;
mod files;

use serde_json::Value;

use crate::support::client::Answer;
use crate::support::upstream::Upstream;
use crate::support::{Client, Server, Setup};

/// A service with a provider behind it whose models have prices.
struct Bench {
    server: Server,
    upstream: Upstream,
    client: Client,
}

impl Bench {
    fn start() -> Self {
        Self::start_with(Setup::real())
    }

    fn start_with(setup: Setup) -> Self {
        let upstream = Upstream::start();
        let server = setup
            .env("OPENAI_API_KEY", "sk-test")
            .env("OPENAI_BASE_URL", &upstream.base_url())
            .env("OPENAI_DEFAULT_MODEL", "gpt-4o-mini")
            .start();
        let client = server.client();
        Self { server, upstream, client }
    }
}

/// A form of a file and some fields, as `curl -F` sends it.
#[track_caller]
fn send_form(client: &Client, path: &str, file: Option<(&str, &[u8])>, fields: &[(&str, &str)]) -> Answer {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").bytes());
    }
    if let Some((name, content)) = file {
        let head = format!("--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
        body.extend(head.bytes().chain(content.iter().copied()).chain(*b"\r\n"));
    }
    body.extend(b"--x--\r\n");
    client.send("POST", path, &[("Content-Type", "multipart/form-data; boundary=x")], Some(&body))
}

#[track_caller]
fn upload(client: &Client, name: &str, content: &[u8], purpose: &str) -> Value {
    send_form(client, "/v1/files", Some((name, content)), &[("purpose", purpose)]).expect(200)
}

fn id(of: &Value) -> String {
    of["id"].as_str().unwrap_or_else(|| panic!("no id in {of}")).to_owned()
}
