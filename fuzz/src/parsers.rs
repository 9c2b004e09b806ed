//! What reads text, called as it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use actix_web::FromRequest as _;
use actix_web::dev::Payload;
use actix_web::http::Uri;
use actix_web::test::TestRequest;
use actix_web::web::{Bytes, Data};
use agentd::auth::ApiKey;
use agentd::clock::{Clock, Timestamp};
use agentd::config::{self, Sources};
use agentd::http::page::{Page, PageRequest};
use agentd::http::query::Query;
use agentd::http::{BodyLimits, Json};
use agentd::jobs::{Call, JobId, Registry, Run, Steps};
use agentd::outbound::{self, Outbound};
use agentd::tools::web;
use futures_util::FutureExt as _;

/// A key's public part is what stands between its kind and its secret.
pub fn key(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    if let Some(id) = ApiKey::public_id(text) {
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(&text[9..9 + id.len()], id);
    }
}

/// A moment that was read is written, and read again as the same.
pub fn time(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    if let Some(moment) = Timestamp::parse(text) {
        assert_eq!(Timestamp::parse(&moment.to_string()), Some(moment));
    }
}

/// Spans and sizes with their units.
pub fn size(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    if let Some(span) = config::parse_span(text) {
        assert_eq!(config::parse_span(&format!("{}ms", span.as_millis())), Some(span));
    }
    if let Some(bytes) = config::parse_bytes(text) {
        assert_eq!(config::parse_bytes(&bytes.to_string()), Some(bytes));
    }
}

/// A file of configuration, and after a NUL lines of the environment.
pub fn config(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (file, environment) = input.split_at(end);
    let environment = String::from_utf8_lossy(environment);
    // What a file names is opened, and not every file has an end.
    if environment.contains('/') || file.contains(&b'/') {
        return;
    }
    let variables = environment.trim_start_matches('\0').lines().filter_map(|line| line.split_once('='));
    let environment: BTreeMap<_, _> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let path = scratch().join("agentd.toml");
    std::fs::write(&path, file).expect("written");
    match config::load(&Sources { file: Some(path), environment, ..Sources::default() }) {
        Ok(loaded) => assert!(!loaded.shown.is_empty()),
        Err(faults) => assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.to_string().is_empty())),
    }
}

/// A body is refused, or it is JSON of bounded depth.
pub fn json(input: &[u8]) {
    const LIMIT: usize = 64 * 1024;
    let limits = BodyLimits { bytes: LIMIT, time: Duration::from_secs(5) };
    let request = TestRequest::post().app_data(Data::new(limits)).to_http_request();
    let mut payload = Payload::from(Bytes::copy_from_slice(input));
    let _entered = RUNTIME.enter();
    let read = Json::<serde_json::Value>::from_request(&request, &mut payload).now_or_never();
    match read.expect("the whole body is there") {
        Ok(json) => assert!(json.bytes.len() <= LIMIT && depth(&json.value) <= 64),
        Err(problem) => {
            assert!(!problem.to_string().is_empty());
            assert!(!actix_web::ResponseError::status_code(&problem).is_server_error());
        }
    }
}

fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// A query string, the page it asks for, and its cursor.
pub fn query(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let Ok(uri) = Uri::try_from(format!("/?{text}")) else { return };
    let request = TestRequest::default().uri(&uri.to_string()).to_http_request();
    let Ok(mut query) = Query::of(&request) else { return };
    let _ = query.with_prefix("metadata.");
    if let Ok(page) = PageRequest::take(&mut query) {
        let cursor = Page::new(vec![()], page.after).next_cursor;
        assert_eq!(cursor.is_some(), page.after.is_some());
    }
    let _ = query.finish(&["limit", "cursor"]);
}

/// Every tool that only computes, with an input that fits its schema. The
/// others reach outside.
pub fn tools(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let Some((name, input)) = text.split_once('\n') else { return };
    if serde_json::from_str::<serde_json::Value>(input).is_ok() {
        compute(name, input);
    }
}

/// A summary quotes what stands in the text, where it says.
pub fn summary(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let given = serde_json::json!({ "text": text, "max_sentences": 30, "query": "of the" });
    let Some(summary) = compute("web.summarize", &given.to_string()) else { return };
    let characters: Vec<char> = text.chars().collect();
    for sentence in summary["sentences"].as_array().expect("a list") {
        let place = |name: &str| sentence[name].as_u64().and_then(|at| usize::try_from(at).ok()).expect("a place");
        let quoted: String = characters[place("start")..place("end")].iter().collect();
        assert_eq!(sentence["text"], quoted);
    }
}

/// What a tool that only computes makes of an input; `None` when it is refused.
fn compute(name: &str, input: &str) -> Option<serde_json::Value> {
    static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
        let mut registry = Registry::default();
        // Made and never used: what goes out through it is not run here.
        let outbound = Outbound::new(outbound::Options::default(), &prometheus::Registry::new()).expect("a way out");
        let web = web::Options { page_bytes: 0, page_time: Duration::ZERO, robots: false, search: None };
        agentd::tools::register(&mut registry, outbound, web).expect("the built-in tools");
        registry
    });
    let place = REGISTRY.find(name)?;
    if !REGISTRY.faults(place, input).is_empty() {
        return None;
    }
    let call = Call {
        job: JobId(uuid::Uuid::nil()),
        tenant: 1,
        payer: agentd::budgets::Payer::of_tenant(1),
        attempt: 1,
        input: Arc::from(input),
        stop: tokio_util::sync::CancellationToken::new(),
        clock: Clock::system(),
        steps: Steps::default(),
    };
    let output = match &REGISTRY.get(place).run {
        Run::Inline(run) => run(&call),
        Run::Blocking(run) => run(&call),
        Run::Async(_) => return None,
    };
    output.ok().map(|output| serde_json::from_str(&output).expect("an answer is JSON"))
}

/// A goal is planned for or refused; nothing is done.
pub fn goal(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let _ = agentd::agents::plans(text);
}

/// Timers need one; nothing is run on it.
static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"));

/// A folder of this process's own. libFuzzer ends it without destructors, so
/// whoever started it clears it away.
pub fn scratch() -> &'static Path {
    static SCRATCH: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = std::env::temp_dir().join(format!("agentd-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    });
    &SCRATCH
}
