//! Where a provider is: what is certainly wrong is refused with what is right, what is doubtful is said.

use serde_json::{Value, json};

use crate::support::server::run;
use crate::support::{Server, Setup};

/// What should have been written.
const WRONG: [(&str, &str); 10] = [
    ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
    ("https://api.openai.com/v1/chat/completions/", "https://api.openai.com/v1"),
    ("https://api.openai.com/v1/completions", "https://api.openai.com/v1"),
    ("https://api.openai.com/v1/responses", "https://api.openai.com/v1"),
    ("https://api.openai.com/v1/embeddings", "https://api.openai.com/v1"),
    ("https://api.openai.com/v1/models", "https://api.openai.com/v1"),
    ("https://api.openai.com/v1/v1", "https://api.openai.com/v1"),
    ("https://api.openai.com/v1?api-version=1", "https://api.openai.com/v1"),
    ("https://api.openai.com//v1", "https://api.openai.com/v1"),
    ("localhost:11434/v1", "http://localhost:11434/v1"),
];
const DOUBTFUL: [&str; 3] = ["http://127.0.0.1:11434", "https://api.perplexity.ai/", "https://a.example/llm"];
const FINE: [(&str, &str); 5] = [
    ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
    (" https://api.openai.com/v1 ", "https://api.openai.com/v1"),
    (
        "https://generativelanguage.googleapis.com/v1beta/openai/",
        "https://generativelanguage.googleapis.com/v1beta/openai",
    ),
    ("https://x.openai.azure.com/openai/v1/", "https://x.openai.azure.com/openai/v1"),
    ("https://open.bigmodel.cn/api/paas/v4", "https://open.bigmodel.cn/api/paas/v4"),
];

#[test]
fn the_route_of_the_administrator_looks_at_it() {
    let mut server = Server::real();
    let admin = server.admin();
    let put = |url: &str| admin.put("/admin/models/providers/p", &json!({ "base_url": url }));
    for (wrong, right) in WRONG {
        let fault = put(wrong).fault("invalid_request", "/base_url");
        let detail = fault["errors"][0]["detail"].as_str().expect("a detail").to_owned();
        assert!(detail.ends_with(&format!("; it should be {right}")), "{wrong}: {detail}");
    }
    for (url, shown) in FINE {
        let made = put(url).expect(200);
        assert_eq!((&made["base_url"], &made["warnings"]), (&json!(shown), &json!([])), "{url}");
    }
    for url in DOUBTFUL {
        let made = put(url).expect(200);
        let shown = url.trim_end_matches('/');
        let warning = made["warnings"][0].as_str().expect("a warning");
        assert!(warning.contains(&format!("is it {shown}/v1?")), "{warning}");
        let listed = admin.get("/admin/models").expect(200);
        assert_eq!(listed["providers"][0]["warnings"], made["warnings"]);
    }
    // The operator sees it at each start.
    server.restart();
    let line = server.wait_for_log("the warning", |line| line["provider"] == "p" && line["level"] == "WARN");
    assert!(line["message"].as_str().is_some_and(|it| it.contains("is it https://a.example/llm/v1?")), "{line}");
    let secret = put("https://me:secret@example.com/v1");
    secret.fault("invalid_request", "/base_url");
    assert!(!secret.text.contains("secret"), "{}", secret.text);
}

#[test]
fn the_command_line_says_it_too() {
    let server = Server::real();
    let provider = |url: &str| server.agentd(&["model", "provider", "p", "--base-url", url]);
    let said = provider("http://127.0.0.1:11434");
    assert!(said.err.starts_with("warning: p: http://127.0.0.1:11434 has no version such as /v1"), "{said:?}");
    assert!(said.out.contains("base_url") && !said.out.contains("warning"), "{said:?}");
    said.ok();
    let listed = server.agentd(&["model", "list"]);
    assert!(listed.err.contains("warning: p: ") && listed.out.contains("http://127.0.0.1:11434"), "{listed:?}");
    let refused = provider("http://127.0.0.1:11434/v1/chat/completions");
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("it should be http://127.0.0.1:11434/v1"), "{refused:?}");
    let fine = provider("http://127.0.0.1:11434/v1");
    assert_eq!(fine.err, "");
    let made: Value = server.ask_json(&["model", "provider", "p", "--base-url", "http://127.0.0.1:11434"]);
    assert!(made["warnings"][0].as_str().is_some_and(|it| it.contains("/v1?")), "{made}");
}

#[test]
fn the_configuration_is_held_to_the_same() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let with = |url: &str| Setup::real().env("OPENAI_BASE_URL", url);
    let check = |url: &str| run(&mut with(url).env("AGENTD_DATA_DIR", "/nowhere").command(&["check", "--show"]));
    for (wrong, right) in WRONG {
        let (code, said) = check(wrong);
        assert!(code == 78 && said.contains("environment OPENAI_BASE_URL: models.openai_base_url "), "{wrong}: {said}");
        assert!(said.contains(&format!("; it should be {right}")), "{wrong}: {said}");
    }
    let (code, said) = with("https://api.openai.com/v1/chat/completions").refused(folder.path());
    assert!(code == 78 && said.contains("it should be https://api.openai.com/v1"), "{said}");
    // In a file or a variable a blank is part of the value, and nobody sees it.
    let (padded, fine): (Vec<_>, Vec<_>) = FINE.into_iter().partition(|(url, _)| url.trim() != *url);
    for (url, _) in padded {
        let (code, said) = check(url);
        assert!(code == 78 && said.contains("a blank at its beginning or end"), "{url}: {said}");
    }
    for (url, shown) in fine {
        let (code, said) = check(url);
        assert!(code == 0 && said.contains(&format!(" {shown} ")) && !said.contains("no version"), "{url}: {said}");
    }
    for url in DOUBTFUL {
        let (code, said) = check(url);
        assert!(code == 0 && said.contains("warning: models.openai_base_url: "), "{url}: {said}");
    }
}

#[test]
fn a_reload_and_the_log_of_the_start_say_it() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("agentd.toml");
    let write = |url: &str| std::fs::write(&file, format!("[models]\nopenai_base_url = \"{url}\"\n")).expect("written");
    write("http://127.0.0.1:1");
    let server = Setup::real().argument("--config").argument(&file.to_string_lossy()).start();
    server.wait_for_log("the warning", |line| {
        line["level"] == "WARN"
            && line["message"].as_str().is_some_and(|it| it.contains("is it http://127.0.0.1:1/v1?"))
    });
    let reload = || server.admin().post("/admin/reload", &json!({}));
    write("http://127.0.0.1:1/v1/chat/completions");
    let refused = reload().problem(422, "configuration_invalid");
    assert!(
        refused["detail"].as_str().is_some_and(|it| it.contains("it should be http://127.0.0.1:1/v1")),
        "{refused}"
    );
    write("http://127.0.0.1:2");
    let warned = reload().expect(200);
    assert!(warned["warnings"][0].as_str().is_some_and(|it| it.contains("is it http://127.0.0.1:2/v1?")), "{warned}");
    write("http://127.0.0.1:2/v1/");
    assert_eq!(reload().expect(200)["warnings"], json!([]));
}
