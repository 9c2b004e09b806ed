//! What models cost: listed, set, removed, and counting from a moment on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Server, Setup};

const PRICES: &str = "/admin/models/prices";
const DAY: Duration = Duration::from_secs(86_400);

/// The prices of a name, as they are listed.
#[track_caller]
fn listed(server: &Server, model: &str) -> Vec<Value> {
    let all = server.admin().get(PRICES).expect(200);
    let rows = all["data"].as_array().expect("a list").clone();
    rows.into_iter().filter(|row| row["model"] == model).collect()
}

fn path(model: &str) -> String {
    format!("{PRICES}/{}", model.replace('/', "%2F"))
}

#[test]
fn the_service_comes_with_prices() {
    let server = Server::real();
    let all = server.admin().get(PRICES).expect(200);
    assert!(all["source"].as_str().is_some_and(|source| source.starts_with("https://")), "{all}");
    assert_eq!(all["ceiling"], Value::Null);
    let row = &listed(&server, "gpt-4o-mini")[0];
    assert_eq!(
        *row,
        json!({
            "model": "gpt-4o-mini", "origin": "shipped", "counts": true, "effective_from": null, "updated_at": null,
            "price": {
                "input_usd_per_million": "0.15", "cached_input_usd_per_million": "0.075",
                "output_usd_per_million": "0.6", "context_tokens": 128_000, "output_tokens": 16_384,
                "image_tokens": 48_169
            }
        })
    );
    server.anyone().get(PRICES).problem(401, "unauthorized");
}

#[test]
fn a_price_that_is_set_wins_until_it_is_removed() {
    let mut server = Server::real();
    let price = json!({ "input_usd_per_million": "0.1", "output_usd_per_million": "0.50", "call_usd": "0.000000001" });
    let set = server.admin().put(&path("gpt-4o-mini"), &price).expect(200);
    assert_eq!((&set["origin"], &set["counts"], &set["effective_from"]), (&json!("own"), &json!(true), &Value::Null));
    assert_eq!(set["price"]["output_usd_per_million"], "0.5");
    server.restart();
    let rows = listed(&server, "gpt-4o-mini");
    let told: Vec<_> = rows.iter().map(|row| (row["origin"].as_str(), row["counts"].as_bool())).collect();
    assert_eq!(told.len(), 2);
    assert!(told.contains(&(Some("own"), Some(true))) && told.contains(&(Some("shipped"), Some(false))), "{told:?}");
    server.admin().delete(&path("gpt-4o-mini")).expect_text(204);
    assert_eq!(listed(&server, "gpt-4o-mini")[0]["counts"], true);
    server.admin().delete(&path("gpt-4o-mini")).problem(404, "not_found");
}

#[test]
fn a_price_belongs_to_a_provider_where_it_is_named() {
    let server = Server::real();
    let price = json!({ "input_usd_per_million": "0", "output_usd_per_million": "0" });
    let set = server.admin().put(&path("local/meta/llama3.2:1b"), &price).expect(200);
    assert_eq!(set["model"], "local/meta/llama3.2:1b");
    assert_eq!(listed(&server, "local/meta/llama3.2:1b").len(), 1);
    server.admin().delete(&path("local/meta/llama3.2:1b")).expect_text(204);
    assert_eq!(listed(&server, "local/meta/llama3.2:1b").len(), 0);
}

#[test]
fn a_price_counts_from_its_moment_on() {
    let server = Server::testbed();
    let price = |input: &str, from: Value| {
        let body = json!({ "input_usd_per_million": input, "output_usd_per_million": "1", "effective_from": from });
        server.admin().put(&path("m"), &body).expect(200)
    };
    assert_eq!(price("1", Value::Null)["counts"], true);
    assert_eq!(price("2", json!("2020-01-01T00:00:00Z"))["counts"], true);
    let tomorrow = agentd::clock::system_now().plus(DAY).to_string();
    let later = price("3", json!(tomorrow));
    assert_eq!((&later["counts"], &later["effective_from"]), (&json!(false), &json!(tomorrow)));
    let counting = || {
        let rows = listed(&server, "m");
        let counts: Vec<_> = rows.iter().filter(|row| row["counts"] == true).collect();
        assert_eq!(counts.len(), 1, "{rows:?}");
        counts[0]["price"]["input_usd_per_million"].clone()
    };
    assert_eq!(counting(), "2");
    server.set_clock(2 * 86_400);
    assert_eq!(counting(), "3");
    server.admin().delete(&format!("{}?effective_from=2020-01-01T00:00:00Z", path("m"))).expect_text(204);
    assert_eq!(listed(&server, "m").len(), 2);
    server.admin().delete(&format!("{}?effective_from=2020-01-01T00:00:00Z", path("m"))).problem(404, "not_found");
    server.admin().delete(&format!("{}?effective_from=soon", path("m"))).problem(400, "invalid_request");
    server.admin().delete(&path("m")).expect_text(204);
    assert_eq!(listed(&server, "m").len(), 0);
}

#[test]
fn a_price_is_read_strictly() {
    let server = Server::real();
    let put = |body: Value| server.admin().put(&path("m"), &body);
    put(json!({})).fault("invalid_request", "/input_usd_per_million");
    put(json!({ "input_usd_per_million": "1", "audio_usd_per_minute": "1" }))
        .fault("invalid_request", "/input_usd_per_million");
    for wrong in [json!(1), json!("-1"), json!("1e3"), json!("0.0000000001"), json!("")] {
        put(json!({ "input_usd_per_million": wrong })).fault("invalid_request", "/input_usd_per_million");
    }
    put(json!({ "input_usd_per_million": "1", "cached_input_usd_per_million": "2" }))
        .fault("invalid_request", "/cached_input_usd_per_million");
    put(json!({ "input_usd_per_million": "1", "context_tokens": 0 })).fault("invalid_request", "/context_tokens");
    put(json!({ "input_usd_per_million": "1", "inptu": 1 })).fault("unknown_field", "/inptu");
    put(json!({ "input_usd_per_million": "1", "effective_from": "soon" })).fault("invalid_request", "/effective_from");
    server
        .admin()
        .put(&path(&"m".repeat(400)), &json!({ "input_usd_per_million": "1" }))
        .problem(400, "invalid_request");
    assert_eq!(listed(&server, "m").len(), 0);
}

#[test]
fn a_ceiling_is_shown() {
    let server = Setup::real()
        .env("AGENTD_MODELS_UNKNOWN_INPUT_USD", "20")
        .env("AGENTD_MODELS_UNKNOWN_OUTPUT_USD", "80.5")
        .start();
    let ceiling = json!({ "input_usd_per_million": "20", "output_usd_per_million": "80.5" });
    assert_eq!(server.admin().get(PRICES).expect(200)["ceiling"], ceiling);
}
