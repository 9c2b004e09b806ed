//! The way to language models: chat completions over scripted providers.

mod answers;
mod bad_input;
mod base_url;
mod cached;
mod chat;
mod failing;
mod money;
mod setup;
mod streams;

use serde_json::{Value, json};

use crate::support::upstream::{Price, Script, Upstream};
use crate::support::{Client, Server, Setup};

/// The key that the service has for the configured provider.
pub const PROVIDER_KEY: &str = "sk-of-the-provider-that-nobody-may-see";

/// Prices of the models `m`, `n` and `cheap`, in US dollars for a million tokens.
const PRICES: [(&str, &str, &str); 3] = [("m", "1", "2"), ("n", "10", "20"), ("cheap", "0.1", "0.2")];

/// A service with one provider behind it.
pub struct Bench {
    pub server: Server,
    pub upstream: Upstream,
    pub client: Client,
    pub tenant: String,
}

impl Bench {
    /// The aliases are `default` (m, then n), `low-cost` (cheap), `failover` (n).
    pub fn start() -> Self {
        Self::start_with(Setup::real())
    }

    pub fn start_with(setup: Setup) -> Self {
        Self::over(Upstream::start(), setup)
    }

    pub fn over(upstream: Upstream, setup: Setup) -> Self {
        let server = setup
            .env("OPENAI_API_KEY", PROVIDER_KEY)
            .env("OPENAI_BASE_URL", &upstream.base_url())
            .env("OPENAI_DEFAULT_MODEL", "m")
            .env("OPENAI_FAILOVER_MODEL", "n")
            .env("OPENAI_LOW_COST_MODEL", "cheap")
            .start();
        upstream.expect_keys(&[PROVIDER_KEY]);
        for (model, input, output) in PRICES {
            upstream.price(model, Price::tokens(input, output));
            set_price(&server, model, input, output);
        }
        let tenant = server.tenant("a tenant");
        let client = server.anyone().with_key(&server.key(&tenant));
        Self { server, upstream, client, tenant }
    }

    /// What the service says that the tenant has spent today.
    #[track_caller]
    pub fn spent(&self) -> Value {
        self.client.get("/v1/budget").expect(200)
    }
}

#[track_caller]
pub fn set_price(server: &Server, model: &str, input: &str, output: &str) {
    let price = json!({ "input_usd_per_million": input, "output_usd_per_million": output });
    server.admin().put(&format!("/admin/models/prices/{model}"), &price).expect(200);
}

pub fn question() -> Value {
    json!({ "model": "default", "messages": [{ "role": "user", "content": "Say hello." }], "max_tokens": 100 })
}

pub fn streamed() -> Value {
    let mut body = question();
    body["stream"] = json!(true);
    body
}

pub fn hello() -> Script {
    Script::reply("Hello there.").used(1000, 50)
}
